/*
 * A disk that forgets and fails, for tests: loaded before libc by LD_PRELOAD.
 *
 * Forgets: with DISK_STORE set, every fsync and fdatasync below DISK_ROOT notes what is then
 * durable: the content of a file (f.INODE), or the names in a folder (d.INODE). Whatever was
 * written, made, renamed or removed after that is not there: the strictest disk that keeps its
 * word. Noted inodes stay open so that their numbers are not used again. Symbolic links are part
 * of the names in a folder.
 *
 * Loses power: while the file DISK_CUT exists and holds N, the process dies behind its Nth fsync
 * or fdatasync below DISK_ROOT.
 *
 * Fails: while the file DISK_FAULT exists and holds "N ERRNO", calls that change something below
 * a folder named spool, or another one that DISK_PART names, fail with ERRNO, all but the first N.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_below_root(const char *path) {
    const char *root = getenv("DISK_ROOT");
    return root && strncmp(path, root, strlen(root)) == 0;
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below_root(path);
}

/* Whether this call must fail; sets errno. */
static int fails(const char *path) {
    static long calls;
    const char *fault = getenv("DISK_FAULT");
    const char *part = getenv("DISK_PART");
    if (!fault || !is_below_root(path) || !strstr(path, part ? part : "/spool")) return 0;
    FILE *file = fopen(fault, "r");
    if (!file) {
        calls = 0;
        return 0;
    }
    long allowed = 0;
    int error = EIO;
    int read = fscanf(file, "%ld %d", &allowed, &error);
    fclose(file);
    if (read != 2 || calls++ < allowed) return 0;
    errno = error;
    return 1;
}

static int fails_fd(int fd) {
    char path[PATH_MAX];
    int before = errno;
    int is_ours = path_of(fd, path);
    errno = before;
    return is_ours && fails(path);
}

static void note_file(int fd, const char *to) {
    char from[64], block[65536];
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    int in = REAL(open)(from, O_RDONLY | O_CLOEXEC);
    int out = REAL(open)(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t length;
    while ((length = read(in, block, sizeof block)) > 0)
        if (REAL(write)(out, block, length) != length) abort();
    if (length < 0) abort();
    close(in);
    close(out);
}

static void note_folder(const char *path, const char *to) {
    DIR *folder = opendir(path);
    FILE *list = fopen(to, "w");
    if (!folder || !list) abort();
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (entry->d_type == DT_LNK) {
            char target[PATH_MAX] = "";
            if (readlinkat(dirfd(folder), entry->d_name, target, PATH_MAX - 1) < 0) abort();
            fprintf(list, "l %s %s\n", target, entry->d_name);
            continue;
        }
        char kind = entry->d_type == DT_DIR ? 'd' : 'f';
        fprintf(list, "%c %lu %s\n", kind, (unsigned long)entry->d_ino, entry->d_name);
    }
    fclose(list);
    closedir(folder);
}

static void cut(void) {
    static long syncs;
    const char *plan = getenv("DISK_CUT");
    FILE *file = plan ? fopen(plan, "r") : NULL;
    if (!file) return;
    long last = 0;
    int read = fscanf(file, "%ld", &last);
    fclose(file);
    if (read == 1 && ++syncs == last) kill(getpid(), SIGKILL);
}

static void note(int fd) {
    char path[PATH_MAX], to[PATH_MAX];
    struct stat about;
    const char *store = getenv("DISK_STORE");
    if (!store || !path_of(fd, path) || fstat(fd, &about) != 0) return;
    int is_folder = S_ISDIR(about.st_mode);
    snprintf(to, sizeof to, "%s/%c.%lu", store, is_folder ? 'd' : 'f', (unsigned long)about.st_ino);
    if (access(to, F_OK) != 0 && dup(fd) < 0) abort();
    if (is_folder) note_folder(path, to);
    else note_file(fd, to);
    cut();
}

int fsync(int fd) {
    if (fails_fd(fd)) return -1;
    int result = REAL(fsync)(fd);
    if (result == 0) note(fd);
    return result;
}

int fdatasync(int fd) {
    if (fails_fd(fd)) return -1;
    int result = REAL(fdatasync)(fd);
    if (result == 0) note(fd);
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails_fd(fd) ? -1 : REAL(write)(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return fails_fd(fd) ? -1 : REAL(pwrite)(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return fails_fd(fd) ? -1 : REAL(pwrite64)(fd, bytes, length, at);
}

int mkdir(const char *path, mode_t mode) {
    return fails(path) ? -1 : REAL(mkdir)(path, mode);
}

int rename(const char *from, const char *to) {
    return fails(to) ? -1 : REAL(rename)(from, to);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    if (flags & O_CREAT && fails(path)) return -1;
    return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    if (flags & O_CREAT && fails(path)) return -1;
    return REAL(open64)(path, flags, mode);
}
