/* serve - runs a server for the bench and lets nothing of it escape.
 *
 *     serve [--core N] [--user NAME] [--cgroup DIR] -- PROGRAM ARGUMENTS...
 *
 * The server gets a core of its own, may be another user's, and its processes are
 * counted in a control group where there is one.  Processes that lose their parent
 * become this one's children, so that /proc tells of their time once they are
 * gone.  When standard input ends, all of them are ended. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct request {
    int core; /* -1: any */
    const struct passwd *user;
    const char *cgroup;
    char **command;
};

static const struct option options[] = {
    {"core", 1, NULL, 'c'}, {"user", 1, NULL, 'u'}, {"cgroup", 1, NULL, 'g'}, {NULL, 0, NULL, 0}};

static bool
take_options(struct request *r, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            r->core = (int)strtol(optarg, NULL, 10);
            break;
        case 'g':
            r->cgroup = optarg;
            break;
        case 'u':
            if (!(r->user = getpwnam(optarg)))
                return false;
            break;
        default:
            return false;
        }
    }
    r->command = argv + optind;
    return optind < argc;
}

static bool
pin(int core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(core, &set);
    return core < 0 || sched_setaffinity(0, sizeof set, &set) == 0;
}

/* This process enters, and so what it starts. */
static bool
enter(const char *cgroup)
{
    char path[4096];
    FILE *file;
    bool ok;

    if (!cgroup)
        return true;
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    file = fopen(path, "w");
    ok = file && fprintf(file, "0\n") > 0;
    if (file && fclose(file) != 0)
        ok = false;
    return ok;
}

static bool
become(const struct passwd *user)
{
    return !user || (setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0);
}

static void
raise_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* The server itself.  It dies with this process. */
static void
run(const struct request *r, const sigset_t *before)
{
    sigprocmask(SIG_SETMASK, before, NULL);
    if (pin(r->core) && enter(r->cgroup) && become(r->user) && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
        execvp(r->command[0], r->command);
    fprintf(stderr, "serve: %s: %s\n", r->command[0], strerror(errno));
    _exit(127);
}

/* Takes in those that ended.  False: none is left. */
static bool
reap(void)
{
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid == 0;
}

/* Children as the system tells them, those of other users too. */
static void
kill_children(int signal)
{
    char path[64];
    FILE *file;
    long pid;

    snprintf(path, sizeof path, "/proc/self/task/%ld/children", (long)getpid());
    file = fopen(path, "r");
    while (file && fscanf(file, "%ld", &pid) == 1)
        kill((pid_t)pid, signal);
    if (file)
        fclose(file);
}

/* First politely, so that it ends its own; what it leaves behind becomes ours. */
static void
end_all(void)
{
    kill_children(SIGTERM);
    for (int tenths = 0; reap(); tenths++) {
        poll(NULL, 0, 100);
        if (tenths >= 20)
            kill_children(SIGKILL);
    }
}

/* Until standard input or the server ends. */
static void
watch(int signals)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
    struct signalfd_siginfo told;

    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (fds[0].revents)
            return;
        if (fds[1].revents &&
            (read(signals, &told, sizeof told) != sizeof told || told.ssi_signo != SIGCHLD || !reap()))
            return;
    }
}

int
main(int argc, char **argv)
{
    struct request r = {.core = -1};
    sigset_t wanted, before;

    if (!take_options(&r, argc, argv)) {
        fprintf(stderr, "usage: serve [--core N] [--user NAME] [--cgroup DIR] -- PROGRAM ARGUMENTS...\n");
        return 2;
    }
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigprocmask(SIG_BLOCK, &wanted, &before);
    raise_limit();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (fork() == 0)
        run(&r, &before);
    watch(signalfd(-1, &wanted, SFD_CLOEXEC));
    end_all();
    return 0;
}
