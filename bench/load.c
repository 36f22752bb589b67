/* load - a crowd of POP3 clients for one workload, on loopback, within bounds.
 *
 *     load --port N --workload W [options]
 *
 * Each connection is a user of its own (u0, u1, …) and runs one session after
 * the other.  Every reply is compared with the plan's.  A reply that is not
 * expected ends the run; a wrong body ends its session and is counted.  What
 * was seen is printed as key=value lines; the status is 0 if all was right. */
#include "crowd.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option options[] = {
    {"port", 1, NULL, 'p'},     {"workload", 1, NULL, 'w'}, {"connections", 1, NULL, 'c'},
    {"count", 1, NULL, 'n'},    {"seconds", 1, NULL, 's'},  {"repeat", 1, NULL, 'r'},
    {"pipeline", 0, NULL, 'P'}, {"tls", 0, NULL, 't'},      {"ends-only", 0, NULL, 'e'},
    {"without", 1, NULL, 'o'},  {"first", 1, NULL, 'f'},    {"pause-ms", 1, NULL, 'm'},
    {"awake", 0, NULL, 'a'},    {"resume", 0, NULL, 'R'},   {NULL, 0, NULL, 0},
};

static int
usage(void)
{
    fprintf(stderr, "usage: load --port N --workload " PLAN_NAMES "\n"
                    "    [--connections 1] [--count 1000] [--seconds 60] [--repeat 1]\n"
                    "    [--pipeline] [--tls] [--resume] [--ends-only] [--without COMMAND]\n"
                    "    [--first USER] [--pause-ms 0] [--awake]\n"
                    "--resume: each connection asks to resume the TLS session of the one before.\n"
                    "Connects to 127.0.0.1 only.  Workloads that rest say 'ready' and hold\n"
                    "their connections until standard input ends.\n");
    return 2;
}

struct request {
    struct crowd_options crowd;
    const char *workload, *without;
    size_t repeat;
    bool tls;
};

static bool
take_option(struct request *r, int option, const char *value)
{
    unsigned long number = value ? strtoul(value, NULL, 10) : 0;

    switch (option) {
    case 'p':
        r->crowd.port = (unsigned)number;
        return number > 0 && number < 65536;
    case 'w':
        r->workload = value;
        return true;
    case 'c':
        r->crowd.connections = number;
        return number > 0;
    case 'n':
        r->crowd.sessions = number;
        return number > 0;
    case 's':
        r->crowd.seconds = strtod(value, NULL);
        return r->crowd.seconds > 0;
    case 'r':
        r->repeat = number;
        return number > 0;
    case 'o':
        r->without = value;
        return true;
    case 'f':
        r->crowd.first = number;
        return true;
    case 'm':
        r->crowd.pause = (uint64_t)number * 1000000;
        return true;
    case 'a':
        r->crowd.awake = true;
        return true;
    case 'P':
        r->crowd.pipeline = true;
        return true;
    case 't':
        r->tls = true;
        return true;
    case 'R':
        r->crowd.resume = r->tls = true;
        return true;
    case 'e':
        r->crowd.mode = CHECK_ENDS;
        return true;
    default:
        return false;
    }
}

static bool
take_options(struct request *r, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (!take_option(r, option, optarg))
            return false;
    return optind == argc && r->workload && r->crowd.port;
}

static void
print_latency(const char *what, const struct latency *l)
{
    printf("%s_p50_ms=%.4f\n%s_p99_ms=%.4f\n%s_max_ms=%.4f\n", what, latency_at(l, 0.5), what,
           latency_at(l, 0.99), what, (double)l->max / 1e6);
}

static void
print_result(const struct request *r, const struct crowd_result *seen)
{
    printf("workload=%s\nsessions=%" PRIu64 "\nreplies=%" PRIu64 "\noctets=%" PRIu64 "\nseconds=%.4f\n",
           r->workload, seen->sessions, seen->replies, seen->octets, seen->seconds);
    printf("wrong=%" PRIu64 "\nunexpected=%" PRIu64 "\n", seen->wrong, seen->unexpected);
    if (r->crowd.resume)
        printf("asked=%" PRIu64 "\nresumed=%" PRIu64 "\nresumed_percent=%.2f\n", seen->asked, seen->resumed,
               seen->asked ? 100.0 * (double)seen->resumed / (double)seen->asked : 0.0);
    print_latency("session", &seen->session);
    print_latency("reply", &seen->reply);
    for (size_t i = 0; i < PLAN_WORDS; i++)
        if (seen->words[i].total)
            print_latency(plan_word(i), &seen->words[i]);
}

int
main(int argc, char **argv)
{
    static struct crowd_result seen;
    struct request r = {.crowd = {.connections = 1, .sessions = 1000, .seconds = 60}, .repeat = 1};
    struct plan plan = {0};
    bool ok;

    if (!take_options(&r, argc, argv))
        return usage();
    signal(SIGPIPE, SIG_IGN);
    if (!plan_make(&plan, r.workload, r.repeat, r.without)) {
        plan_clear(&plan);
        return usage();
    }
    r.crowd.tls = r.tls ? wire_client_tls() : NULL;
    ok = (!r.tls || r.crowd.tls) && crowd_run(&r.crowd, &plan, &seen);
    print_result(&r, &seen);
    SSL_CTX_free(r.crowd.tls);
    plan_clear(&plan);
    return ok && seen.wrong == 0 && seen.unexpected == 0 ? 0 : 1;
}
