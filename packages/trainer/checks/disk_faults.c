/* System calls that fail on purpose: a library for LD_PRELOAD, which disk_faults.py compiles and arms. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX]; /* only calls on paths below it count */
static long wanted, seen;     /* number of the call that fails, from 1, and of those made */
static int error_number, shortens, persists, armed, failed, log_file = -1;

/* Let call number `number` below the folder `path` fail with `error`; number 0 fails none. With `shorten`, a write
   first writes half of its bytes; it fails only if that is to persist. With `persist`, all later calls that write,
   create or rename fail, too. Each call is written to `file`, an open file, as "name path". */
void arm(const char *path, long number, int error, int shorten, int persist, int file) {
    snprintf(folder, sizeof folder, "%s/", path);
    wanted = number, error_number = error, shortens = shorten, persists = persist, log_file = file, armed = 1;
}

#define REAL(result, name, ...)             \
    static result (*real)(__VA_ARGS__) = 0; \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int file, const void *bytes, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(file, bytes, size);
}

/* Count a call; return 1 if it is the one that fails, 2 if it fails because the failure persists, else 0. */
static int count(const char *name, const char *path, int changes) {
    if (strncmp(path, folder, strlen(folder))) return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    char line[PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s %s\n", name, path + strlen(folder));
    if (real_write(log_file, line, length) != length) _exit(99);
    if (number == wanted) return failed = 1;
    return failed && persists && changes ? 2 : 0;
}

/* The same for a call on a path, relative to an open directory if it is not absolute. */
static int on_path(const char *name, int directory, const char *path, int changes) {
    char link[64], whole[2 * PATH_MAX];
    ssize_t length = 0;
    if (!armed) return 0;
    if (path[0] != '/') { /* an empty path is the open file itself */
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
        if ((length = readlink(link, whole, PATH_MAX)) < 0) return 0;
        if (path[0]) whole[length++] = '/';
    }
    snprintf(whole + length, sizeof whole - length, "%s", path);
    return count(name, whole, changes);
}

/* The same for a call on an open file. */
static int on_file(const char *name, int file, int changes) {
    return armed && file != log_file ? on_path(name, file, "", changes) : 0;
}

/* Bytes that a write may write; -1 if it fails. */
static ssize_t allowed(int file, size_t size) {
    int found = on_file("write", file, 1);
    if (found == 1 && shortens && size > 1) return size / 2;
    return found ? -1 : (ssize_t)size;
}

#define FAIL_IF(condition) if (condition) return errno = error_number, -1
#define MODE(mode)         \
    mode_t mode = 0;       \
    va_list rest;          \
    va_start(rest, flags); \
    if (flags & (O_CREAT | __O_TMPFILE)) mode = va_arg(rest, mode_t); \
    va_end(rest)
#define OPENS(at, path) on_path(flags & O_CREAT ? "create" : "open", at, path, flags & O_CREAT)

#define OPEN(name)                                \
    int name(const char *path, int flags, ...) {  \
        REAL(int, #name, const char *, int, ...); \
        MODE(mode);                               \
        FAIL_IF(OPENS(AT_FDCWD, path));           \
        return real(path, flags, mode);           \
    }
#define OPENAT(name)                                     \
    int name(int at, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...);   \
        MODE(mode);                                      \
        FAIL_IF(OPENS(at, path));                        \
        return real(at, path, flags, mode);              \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

ssize_t write(int file, const void *bytes, size_t size) {
    ssize_t part = allowed(file, size);
    FAIL_IF(part < 0);
    return real_write(file, bytes, part);
}
#define PWRITE(name)                                                       \
    ssize_t name(int file, const void *bytes, size_t size, off_t offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t);            \
        ssize_t part = allowed(file, size);                                \
        FAIL_IF(part < 0);                                                 \
        return real(file, bytes, part, offset);                            \
    }
PWRITE(pwrite) PWRITE(pwrite64)

/* Other calls: the kind of call, whether it changes something that a full disk forbids, parameters and arguments. */
#define OTHER(result, function, name, where, changes, parameters, arguments, ...) \
    result function parameters {                                                  \
        REAL(result, #function, __VA_ARGS__);                                     \
        FAIL_IF(where(name, changes));                                            \
        return real arguments;                                                    \
    }
#define FILE_(name, changes) on_file(name, file, changes)
#define PATH_(name, changes) on_path(name, AT_FDCWD, path, changes)
#define AT_(name, changes) on_path(name, at, path, changes)

OTHER(ssize_t, read, "read", FILE_, 0, (int file, void *bytes, size_t size), (file, bytes, size), int, void *, size_t)
OTHER(ssize_t, writev, "write", FILE_, 1, (int file, const struct iovec *parts, int number), (file, parts, number),
      int, const struct iovec *, int)
OTHER(int, fsync, "fsync", FILE_, 1, (int file), (file), int)
OTHER(int, fdatasync, "fsync", FILE_, 1, (int file), (file), int)
OTHER(int, ftruncate, "truncate", FILE_, 1, (int file, off_t size), (file, size), int, off_t)
OTHER(int, ftruncate64, "truncate", FILE_, 1, (int file, off_t size), (file, size), int, off_t)
OTHER(int, rename, "rename", PATH_, 1, (const char *path, const char *to), (path, to), const char *, const char *)
OTHER(int, renameat, "rename", AT_, 1, (int at, const char *path, int other, const char *to), (at, path, other, to),
      int, const char *, int, const char *)
OTHER(int, mkdir, "mkdir", PATH_, 1, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
OTHER(int, mkdirat, "mkdir", AT_, 1, (int at, const char *path, mode_t mode), (at, path, mode), int, const char *,
      mode_t)
OTHER(int, unlink, "unlink", PATH_, 0, (const char *path), (path), const char *)
OTHER(int, rmdir, "rmdir", PATH_, 0, (const char *path), (path), const char *)
OTHER(int, unlinkat, flags ? "rmdir" : "unlink", AT_, 0, (int at, const char *path, int flags), (at, path, flags), int,
      const char *, int)

/* A failed close has closed the file, as Linux does it. */
int close(int file) {
    REAL(int, "close", int);
    int fails = on_file("close", file, 0), result = real(file);
    FAIL_IF(fails);
    return result;
}

#define MMAP(name)                                                                                \
    void *name(void *place, size_t size, int protection, int flags, int file, off_t offset) {     \
        REAL(void *, #name, void *, size_t, int, int, int, off_t);                                \
        if (file >= 0 && on_file("mmap", file, 0)) return errno = error_number, MAP_FAILED;       \
        return real(place, size, protection, flags, file, offset);                                \
    }
MMAP(mmap) MMAP(mmap64)
