/* replay - runs files, and the files in directories, through a fuzz target:
 * corpora as specs, without a fuzzer. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int
by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* The file's bytes, in memory of just their size; NULL: it cannot be read. */
static uint8_t *
read_whole(FILE *file, size_t size)
{
    uint8_t *data = malloc(size ? size : 1);

    if (data && fread(data, 1, size, file) == size)
        return data;
    free(data);
    return NULL;
}

static bool
replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = file ? read_whole(file, size) : NULL;

    if (file)
        fclose(file);
    if (!data) {
        perror(path);
        return false;
    }
    fprintf(stderr, "%s\n", path); /* before it: the last one told is the one that failed */
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return true;
}

static bool replay(const char *path);

static bool
replay_entry(const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + 2;
    char *path = malloc(size);
    bool ok = path != NULL;

    if (name[0] != '.' && ok) {
        snprintf(path, size, "%s/%s", directory, name);
        ok = replay(path);
    }
    free(path);
    return ok;
}

static bool
replay_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    bool ok = count >= 0;

    for (int i = 0; i < count; i++) {
        ok = replay_entry(path, entries[i]->d_name) && ok;
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return ok;
}

static bool
replay(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        perror(path);
        return false;
    }
    return S_ISDIR(st.st_mode) ? replay_directory(path) : replay_file(path, (size_t)st.st_size);
}

int
main(int argc, char **argv)
{
    bool ok = argc > 1;

    for (int i = 1; i < argc; i++)
        ok = replay(argv[i]) && ok;
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
