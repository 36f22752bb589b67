/* mailbox - writes a mailbox of mail.h's for so many users, u0 and on.
 *
 *     mailbox maildir|files NAME USERS DIR
 *
 * maildir: DIR/u0/cur/…; files: DIR/u0/000001 and on, as tcllib has them. */
#include "mail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_ROOM 4096

static bool
make_dir(const char *path)
{
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        return true;
    perror(path);
    return false;
}

static bool
write_file(const char *path, const struct buf *text)
{
    FILE *file = fopen(path, "wb");
    bool ok = file && fwrite(text->data, 1, text->len, file) == text->len;

    if (file && fclose(file) != 0)
        ok = false;
    if (!ok)
        perror(path);
    return ok;
}

/* How servers store mail. */
struct layout {
    const char *name, *dirs[4];
    enum mail_form form;
    void (*path)(char *path, const char *dir, const struct mailbox *box, size_t number);
};

static void
maildir_path(char *path, const char *dir, const struct mailbox *box, size_t number)
{
    char name[MAIL_NAME_MAX];

    mail_name(name, box, number);
    snprintf(path, PATH_ROOM, "%s/cur/%s:2,S", dir, name);
}

static void
files_path(char *path, const char *dir, const struct mailbox *box, size_t number)
{
    (void)box;
    snprintf(path, PATH_ROOM, "%s/%06zu", dir, number);
}

static const struct layout layouts[] = {
    {"maildir", {"cur", "new", "tmp"}, MAIL_STORED, maildir_path},
    {"files", {NULL}, MAIL_STORED, files_path},
};

static const struct layout *
layout_find(const char *name)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strcmp(layouts[i].name, name) == 0)
            return &layouts[i];
    return NULL;
}

static bool
write_message(const struct layout *layout, const struct mailbox *box, const char *dir, size_t number)
{
    struct buf text = {0};
    char path[PATH_ROOM];
    bool ok;

    layout->path(path, dir, box, number);
    mail_make(&text, box, number, layout->form);
    ok = !text.failed && write_file(path, &text);
    buf_clear(&text);
    return ok;
}

static bool
write_user(const struct layout *layout, const struct mailbox *box, const char *dir)
{
    char path[PATH_ROOM];

    if (!make_dir(dir))
        return false;
    for (const char *const *sub = layout->dirs; *sub; sub++) {
        snprintf(path, sizeof path, "%s/%s", dir, *sub);
        if (!make_dir(path))
            return false;
    }
    for (size_t i = 1; i <= box->count; i++)
        if (!write_message(layout, box, dir, i))
            return false;
    return true;
}

int
main(int argc, char **argv)
{
    const struct layout *layout = argc == 5 ? layout_find(argv[1]) : NULL;
    const struct mailbox *box = argc == 5 ? mailbox_find(argv[2]) : NULL;
    size_t users = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
    char dir[PATH_ROOM / 2];

    if (!layout || !box || users == 0 || !make_dir(argv[4])) {
        fprintf(stderr, "usage: mailbox maildir|files session|retr|huge|rest USERS DIR\n");
        return 2;
    }
    for (size_t i = 0; i < users; i++) {
        snprintf(dir, sizeof dir, "%s/u%zu", argv[4], i);
        if (!write_user(layout, box, dir))
            return 1;
    }
    return 0;
}
