#include "phases.h"

void
phase_enter(struct session *s, enum session_state state)
{
    s->state = state;
    s->named = false;
}

bool
phase_is_reached(unsigned count, unsigned max)
{
    return max && count >= max;
}

enum need
phase_bad(struct session *s, const char *why, struct buf *out)
{
    char words[SAY_WORDS];
    struct slice reason;

    s->named = false;
    s->asking = false;
    if (!phase_is_reached(++s->bad, s->config->max_bad_commands))
        return say_err(s, why, out);
    reason = say_words(s, why);
    say_line(false, NULL, say_fill(s, "%1; too many bad commands, closing the connection", &reason, 1, words),
             out);
    return NEED_CLOSE;
}

bool
phase_has_verb(const struct session *s, enum verb verb)
{
    if (s->config->off & VERB_BIT(verb))
        return false;
    if (s->config->own & VERB_BIT(verb))
        return true; /* whatever the core itself could do */
    return verb == VERB_APOP ? s->apop : verb != VERB_AUTH || s->config->mechanism_count > 0;
}

bool
phase_takes_stls(const struct session *s)
{
    return s->stls && !s->tls && s->state == SESSION_AUTHORIZATION && phase_has_verb(s, VERB_STLS);
}

bool
phase_takes_plain(const struct session *s)
{
    return s->tls || !s->no_plain;
}
