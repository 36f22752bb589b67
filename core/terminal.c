#include "terminal.h"

#include "digest.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

/* What would end or stop the process and leave the terminal without echo. */
static const int deadly[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
#define DEADLY (sizeof deadly / sizeof *deadly)

struct quiet {
    struct termios before;
    struct sigaction actions[DEADLY];
    sigset_t mask; /* as it was */
};

static volatile sig_atomic_t came; /* the signal that came meanwhile, or 0 */

static void
note_signal(int number)
{
    came = number;
}

/* They are held back but while we wait, so that none comes just before that and
 * is slept over. */
static void
watch_signals(struct quiet *q)
{
    struct sigaction action = {.sa_handler = note_signal};
    sigset_t held;

    came = 0;
    sigemptyset(&held);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < DEADLY; i++)
        sigaddset(&held, deadly[i]);
    sigprocmask(SIG_BLOCK, &held, &q->mask);
    for (size_t i = 0; i < DEADLY; i++)
        sigaction(deadly[i], &action, &q->actions[i]);
}

static void
give_signals_back(const struct quiet *q)
{
    for (size_t i = 0; i < DEADLY; i++)
        sigaction(deadly[i], &q->actions[i], NULL);
    if (came)
        raise(came);
    sigprocmask(SIG_SETMASK, &q->mask, NULL);
}

static bool
switch_echo_off(struct quiet *q)
{
    struct termios now;

    if (tcgetattr(STDIN_FILENO, &q->before) != 0)
        return false;
    watch_signals(q);
    now = q->before;
    now.c_lflag &= ~(tcflag_t)ECHO;
    now.c_lflag |= ECHONL | ICANON | ISIG;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &now);
    return true;
}

static void
switch_echo_on(const struct quiet *q)
{
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &q->before);
    give_signals_back(q);
}

static void
say(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));

    (void)ignored;
}

static bool
fail(const char **why, const char *reason)
{
    *why = reason;
    return false;
}

/* Until the terminal has something, or a signal came. */
static bool
wait_for_input(const struct quiet *q)
{
    fd_set input;

    FD_ZERO(&input);
    FD_SET(STDIN_FILENO, &input);
    return pselect(STDIN_FILENO + 1, &input, NULL, NULL, NULL, &q->mask) == 1;
}

/* Octet by octet: what is behind the line is another reader's.  q: NULL where
 * it comes from no terminal. */
static bool
read_line(const struct quiet *q, char *line, size_t room, size_t *n, const char **why)
{
    for (*n = 0; *n < room; ++*n) {
        ssize_t got;

        if (q && !wait_for_input(q))
            return fail(why, "interrupted");
        got = read(STDIN_FILENO, line + *n, 1);
        if (got < 0)
            return fail(why, strerror(errno));
        if (got == 0 && *n == 0)
            return fail(why, "standard input has no line");
        if (got == 0 || line[*n] == '\n') {
            *n -= *n > 0 && line[*n - 1] == '\r';
            return true;
        }
    }
    return fail(why, "the line is too long");
}

bool
terminal_is_there(void)
{
    return isatty(STDIN_FILENO) == 1;
}

bool
terminal_read_secret(const char *prompt, char *line, size_t room, size_t *n, const char **why)
{
    struct quiet quiet;
    bool is_quiet = terminal_is_there() && switch_echo_off(&quiet);
    bool ok;

    if (is_quiet)
        say(prompt);
    ok = read_line(is_quiet ? &quiet : NULL, line, room, n, why);
    if (is_quiet)
        switch_echo_on(&quiet);
    if (!ok)
        digest_wipe(line, room);
    return ok;
}
