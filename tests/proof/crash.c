/* Ends, or fails, the k-th call that changes something below one folder.
 *
 * Preloaded into a process (LD_PRELOAD), it stands before the C library's calls: create, write,
 * fsync, rename, unlink, mkdir, rmdir, truncate. `crash_arm` says below which folder they count,
 * and what happens to the k-th:
 *
 *     action SIGKILL      the process is killed; of a write, half is done first
 *     action an errno     the call fails with it; `lasting`: so do all later ones that need space
 *
 * `crash_count(kind)` tells how many calls there were; kind -1 means all of them.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE, WRITE, FSYNC, RENAME, UNLINK, MKDIR, RMDIR, TRUNCATE, KINDS };

static char below[PATH_MAX];
static size_t below_length;
static long counts[KINDS], total, at;
static int action, lasting;

#define KILL (-1)
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void crash_arm(const char *folder, long number, int what, int stays) {
    strncpy(below, folder, sizeof below - 1);
    memset(counts, 0, sizeof counts);
    total = 0, at = number, action = what, lasting = stays;
    below_length = strlen(below);
}

long crash_count(int kind) { return kind < 0 ? total : counts[kind]; }

/* Whether a call on `path` is to fail: an errno, KILL, or 0. */
static int verdict(enum kind kind, const char *path) {
    if (!below_length || strncmp(path, below, below_length)) return 0;
    __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
    long number = __atomic_add_fetch(&total, 1, __ATOMIC_SEQ_CST);
    if (number == at) return action == SIGKILL ? KILL : action;
    int needs_space = kind == CREATE || kind == WRITE || kind == FSYNC || kind == MKDIR;
    return at && number > at && lasting && needs_space ? action : 0;
}

/* The path of an open file, or of `path` seen from the open folder `at_folder`. */
static void locate(char *found, int at_folder, const char *path) {
    found[0] = 0;
    if (path && (path[0] == '/' || at_folder == AT_FDCWD)) {
        strncpy(found, path, PATH_MAX - 1);
        found[PATH_MAX - 1] = 0;
        return;
    }
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at_folder);
    ssize_t length = readlink(link, found, PATH_MAX - 1);
    if (length < 0) length = 0;
    found[length] = 0;
    if (path && length + strlen(path) + 2 < PATH_MAX) {
        strcat(found, "/");
        strcat(found, path);
    }
}

static int refused(enum kind kind, int at_folder, const char *path) {
    char found[PATH_MAX];
    if (!below_length) return 0;
    locate(found, at_folder, path);
    int error = verdict(kind, found);
    if (error == KILL) kill(getpid(), SIGKILL), pause();
    if (error) errno = error;
    return error;
}

ssize_t write(int file, const void *bytes, size_t count) {
    __typeof__(&write) next = NEXT(write);
    char found[PATH_MAX];
    if (!below_length || file < 3) return next(file, bytes, count);
    locate(found, file, NULL);
    int error = verdict(WRITE, found);
    if (error == KILL) {
        if (count > 1) (void)!next(file, bytes, count / 2);
        kill(getpid(), SIGKILL), pause();
    }
    if (error) return errno = error, -1;
    return next(file, bytes, count);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (refused(WRITE, file, NULL)) return -1;
    return NEXT(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t place) {
    if (refused(WRITE, file, NULL)) return -1;
    return NEXT(pwrite64)(file, bytes, count, place);
}

int fsync(int file) { return refused(FSYNC, file, NULL) ? -1 : NEXT(fsync)(file); }

int fdatasync(int file) { return refused(FSYNC, file, NULL) ? -1 : NEXT(fdatasync)(file); }

int ftruncate64(int file, off64_t size) {
    return refused(TRUNCATE, file, NULL) ? -1 : NEXT(ftruncate64)(file, size);
}

int ftruncate(int file, off_t size) {
    return refused(TRUNCATE, file, NULL) ? -1 : NEXT(ftruncate)(file, size);
}

int rename(const char *from, const char *to) {
    return refused(RENAME, AT_FDCWD, from) ? -1 : NEXT(rename)(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
    return refused(RENAME, a, from) ? -1 : NEXT(renameat)(a, from, b, to);
}

int unlink(const char *path) {
    return refused(UNLINK, AT_FDCWD, path) ? -1 : NEXT(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
    enum kind kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    return refused(kind, folder, path) ? -1 : NEXT(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) { return refused(RMDIR, AT_FDCWD, path) ? -1 : NEXT(rmdir)(path); }

int mkdir(const char *path, mode_t mode) {
    return refused(MKDIR, AT_FDCWD, path) ? -1 : NEXT(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    return refused(MKDIR, folder, path) ? -1 : NEXT(mkdirat)(folder, path, mode);
}

/* The four forms of open: only those that make or change a file count. */
#define MODE                                  \
    mode_t mode = 0;                          \
    if (flags & O_CREAT) {                    \
        va_list rest;                         \
        va_start(rest, flags);                \
        mode = va_arg(rest, mode_t);          \
        va_end(rest);                         \
    }
#define COUNTS(folder) ((flags & (O_CREAT | O_TRUNC)) && refused(CREATE, folder, path))

int open(const char *path, int flags, ...) {
    MODE return COUNTS(AT_FDCWD) ? -1 : NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE return COUNTS(AT_FDCWD) ? -1 : NEXT(open64)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE return COUNTS(folder) ? -1 : NEXT(openat)(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE return COUNTS(folder) ? -1 : NEXT(openat64)(folder, path, flags, mode);
}
