/* Owns a faulty disk between a program and its files, by LD_PRELOAD: errors on demand, and a journal by which a kill can be made
 * a power cut.
 *
 *   FAULTY_ROOT      only what lies below this folder is concerned; an absolute path without links
 *   FAULTY_RULES     file of rules, looked at anew whenever its first line, a number, changes; one rule a line:
 *                      OPERATION PART ERROR SKIP COUNT
 *                    open, create, write, read, fsync, truncate, fallocate, rename, link, unlink or mkdir on a path that
 *                    contains PART fails with the error of that number, after SKIP that don't, COUNT times (0: for ever).
 *                    ERROR -1 with write or read moves a part of the bytes only. Each is told on standard error.
 *   FAULTY_JOURNAL   folder, on the same file system and outside of the root, in which everything is written down that no fsync
 *                    has made durable: the file `ops`, and a second name `iNUMBER` for each inode in it. power_cut.py undoes it.
 *
 * What is promised is what POSIX promises: fsync of a file makes its bytes and its length durable and not its name; names are
 * made durable by fsync of their folder. Mapped memory is not looked at.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS_MAX = 65536, RULES_MAX = 32, RULES_BYTES = 4096, PATH_BYTES = 4096, READ_BYTES = 1 << 16 };
enum { WRITE = 1, TRUNCATE, EXTEND, SYNC, CREATE, LINK, UNLINK, RENAME, MKDIR, RMDIR, SYNC_FOLDER };

/* One entry of the journal; behind it stand `before` bytes that were there, `after` that were written, and two paths. */
struct entry {
    uint64_t kind, number, inode, position, length, old_length, before, after, path, other;
};

struct rule {
    char operation[16], part[128];
    int error;
    long skip, count;
};

static struct {
    char *path;
    int reader; /* reads what a write replaces; -1: not open */
} files[FDS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *journal;
static int ops = -1;
static uint64_t numbers;
static volatile char *rules_map;
static char rules_seen[16];
static struct rule rules[RULES_MAX];
static int rules_count;

#define REAL(name, result, ...)                                                                                                \
    static result (*real_##name)(__VA_ARGS__);                                                                                 \
    if (!real_##name) real_##name = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* The real functions that are needed here themselves. */
static int do_open(const char *path, int flags, mode_t mode) { REAL(open64, int, const char *, int, ...); return real_open64(path, flags, mode); }
static ssize_t do_pread(int fd, void *b, size_t n, off_t at) { REAL(pread64, ssize_t, int, void *, size_t, off_t); return real_pread64(fd, b, n, at); }
static ssize_t do_writev(int fd, const struct iovec *v, int n) { REAL(writev, ssize_t, int, const struct iovec *, int); return real_writev(fd, v, n); }
static int do_close(int fd) { REAL(close, int, int); return real_close(fd); }
static int do_linkat(int a, const char *f, int b, const char *t, int flags) { REAL(linkat, int, int, const char *, int, const char *, int); return real_linkat(a, f, b, t, flags); }

/* What a call that is to move a part moves: half, in whole blocks, but never nothing, which would be the end of the file. */
static size_t part_of(size_t length) { return length < 8192 ? (length > 4096 ? 4096 : length) : length / 2 & ~4095ul; }

static void give_up(const char *what) {
    fprintf(stderr, "faulty_disk: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    root = getenv("FAULTY_ROOT");
    if (!root) root = "/nowhere";
    for (int fd = 0; fd < FDS_MAX; fd++) files[fd].reader = -1;
    const char *file = getenv("FAULTY_RULES");
    if (file) {
        int fd = do_open(file, O_RDONLY | O_CLOEXEC, 0);
        if (fd < 0) give_up(file);
        void *map = mmap(NULL, RULES_BYTES, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) give_up(file);
        rules_map = map;
        do_close(fd);
    }
    journal = getenv("FAULTY_JOURNAL");
    if (journal) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/ops", journal);
        ops = do_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (ops < 0) give_up(path);
        /* Greater than all numbers in it, each of which stands for more bytes. */
        numbers = lseek(ops, 0, SEEK_END);
    }
}

/* The path without doubled and trailing slashes, if it lies below the root. */
static int is_ours(const char *path, char *out) {
    size_t n = 0;
    for (const char *p = path; *p && n < PATH_BYTES - 1; p++)
        if (*p != '/' || n == 0 || out[n - 1] != '/') out[n++] = *p;
    while (n > 1 && out[n - 1] == '/') n--;
    out[n] = 0;
    size_t length = strlen(root);
    return strncmp(out, root, length) == 0 && (out[length] == '/' || out[length] == 0);
}

static const char *path_of(int fd) { return fd >= 0 && fd < FDS_MAX ? files[fd].path : NULL; }

/* --- errors on demand --- */

static void read_rules(void) {
    char text[RULES_BYTES + 1], *line, *rest = text;
    memcpy(text, (const void *)rules_map, RULES_BYTES);
    text[RULES_BYTES] = 0;
    rules_count = 0;
    line = strsep(&rest, "\n");
    snprintf(rules_seen, sizeof rules_seen, "%.15s", line);
    while ((line = strsep(&rest, "\n")) && rules_count < RULES_MAX) {
        struct rule *r = &rules[rules_count];
        if (sscanf(line, "%15s %127s %d %ld %ld", r->operation, r->part, &r->error, &r->skip, &r->count) == 5) {
            if (r->count == 0) r->count = INT64_MAX;
            rules_count++;
        }
    }
}

/* What the rules say about an operation: 0, an error, or -1. */
static int fault(const char *operation, const char *path) {
    if (!rules_map || !path) return 0;
    int error = 0;
    pthread_mutex_lock(&lock);
    if (strncmp(rules_seen, (const char *)rules_map, strlen(rules_seen)) != 0 || !rules_seen[0]) read_rules();
    for (int i = 0; i < rules_count && !error; i++) {
        struct rule *r = &rules[i];
        if (strcmp(r->operation, operation) || !strstr(path, r->part) || r->count <= 0) continue;
        if (r->skip > 0) {
            r->skip--;
            continue;
        }
        r->count--;
        error = r->error;
    }
    pthread_mutex_unlock(&lock);
    if (error) dprintf(2, "faulty_disk: %s of %s: %s\n", operation, path, error < 0 ? "a part only" : strerror(error));
    return error;
}

#define FAIL(operation, path)                                                                                                  \
    do {                                                                                                                       \
        int error_ = fault(operation, path);                                                                                   \
        if (error_ > 0) {                                                                                                      \
            errno = error_;                                                                                                    \
            return -1;                                                                                                         \
        }                                                                                                                      \
    } while (0)

/* --- the journal; everything here is called with the lock held --- */

static void note(struct entry e, const void *before, const void *after, const char *path, const char *other) {
    e.number = ++numbers;
    e.path = path ? strlen(path) : 0;
    e.other = other ? strlen(other) : 0;
    struct iovec parts[] = {{&e, sizeof e}, {(void *)before, e.before}, {(void *)after, e.after}, {(void *)path, e.path}, {(void *)other, e.other}};
    ssize_t wanted = sizeof e + e.before + e.after + e.path + e.other;
    if (do_writev(ops, parts, 5) != wanted) give_up("the journal of the faulty disk cannot be written");
}

/* Holds an inode by a second name. */
static void hold(int at, const char *path, ino_t inode, int flags) {
    char name[PATH_BYTES];
    snprintf(name, sizeof name, "%s/i%ju", journal, (uintmax_t)inode);
    if (do_linkat(at, path, AT_FDCWD, name, flags) != 0 && errno != EEXIST) give_up(name);
}

static void hold_fd(int fd, ino_t inode) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    hold(AT_FDCWD, path, inode, AT_SYMLINK_FOLLOW);
}

/* Reads what a change of a file is about to replace; how many bytes there are of it. */
static size_t read_before(int fd, ino_t inode, void *into, size_t length, off_t position) {
    if (files[fd].reader < 0) {
        char name[PATH_BYTES];
        hold_fd(fd, inode);
        snprintf(name, sizeof name, "%s/i%ju", journal, (uintmax_t)inode);
        files[fd].reader = do_open(name, O_RDONLY | O_CLOEXEC, 0);
        if (files[fd].reader < 0) give_up(name);
    }
    size_t done = 0;
    while (done < length) {
        ssize_t n = do_pread(files[fd].reader, (char *)into + done, length - done, position + done);
        if (n < 0) give_up("reading what is replaced");
        if (n == 0) break;
        done += n;
    }
    return done;
}

static void note_write(int fd, const void *bytes, size_t length, off_t position) {
    struct stat facts;
    if (fstat(fd, &facts) != 0) give_up("fstat");
    void *before = malloc(length ? length : 1);
    size_t there = read_before(fd, facts.st_ino, before, length, position);
    struct entry e = {.kind = WRITE, .inode = facts.st_ino, .position = position, .length = length, .old_length = facts.st_size, .before = there, .after = length};
    note(e, before, bytes, NULL, NULL);
    free(before);
}

static void note_truncate(int fd, off_t length) {
    struct stat facts;
    if (fstat(fd, &facts) != 0) give_up("fstat");
    size_t lost = facts.st_size > length ? facts.st_size - length : 0;
    char *before = malloc(lost ? lost : 1);
    size_t there = read_before(fd, facts.st_ino, before, lost, length);
    while (there > 0 && before[there - 1] == 0) there--;
    struct entry e = {.kind = TRUNCATE, .inode = facts.st_ino, .position = length, .length = lost, .old_length = facts.st_size, .before = there};
    note(e, before, NULL, NULL, NULL);
    free(before);
}

static void note_path(int kind, ino_t inode, uint64_t replaced, const char *path, const char *other) {
    struct entry e = {.kind = kind, .inode = inode, .position = replaced};
    note(e, NULL, NULL, path, other);
}

/* --- the functions of the C library --- */

static int open_any(const char *path, int flags, mode_t mode) {
    char ours[PATH_BYTES];
    if (!is_ours(path, ours)) return do_open(path, flags, mode);
    FAIL("open", ours);
    struct stat facts;
    pthread_mutex_lock(&lock);
    int was_there = stat(ours, &facts) == 0;
    if ((flags & O_CREAT) && !was_there) {
        pthread_mutex_unlock(&lock);
        FAIL("create", ours);
        pthread_mutex_lock(&lock);
    }
    int truncates = (flags & O_TRUNC) && was_there;
    int fd = do_open(path, truncates && journal ? flags & ~O_TRUNC : flags, mode);
    if (fd >= FDS_MAX) give_up("too many files");
    if (fd >= 0) {
        free(files[fd].path);
        files[fd].path = strdup(ours);
        if (files[fd].reader >= 0) do_close(files[fd].reader);
        files[fd].reader = -1;
        if (journal && (flags & O_CREAT) && !was_there && fstat(fd, &facts) == 0) {
            hold_fd(fd, facts.st_ino);
            note_path(CREATE, facts.st_ino, 0, ours, NULL);
        }
        if (journal && truncates) {
            REAL(ftruncate64, int, int, off_t);
            note_truncate(fd, 0);
            if (real_ftruncate64(fd, 0) != 0) give_up("ftruncate");
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open_any(path, flags, mode);
}

int close(int fd) {
    if (path_of(fd)) {
        pthread_mutex_lock(&lock);
        free(files[fd].path);
        files[fd].path = NULL;
        if (files[fd].reader >= 0) do_close(files[fd].reader);
        files[fd].reader = -1;
        pthread_mutex_unlock(&lock);
    }
    return do_close(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t position) {
    REAL(pwrite64, ssize_t, int, const void *, size_t, off_t);
    if (!path_of(fd)) return real_pwrite64(fd, bytes, length, position);
    int error = fault("write", path_of(fd));
    if (error > 0) {
        errno = error;
        return -1;
    }
    /* A part is whole blocks, as it has to be past the page cache. */
    if (error < 0) length = part_of(length);
    if (!journal) return real_pwrite64(fd, bytes, length, position);
    pthread_mutex_lock(&lock);
    note_write(fd, bytes, length, position);
    ssize_t done = real_pwrite64(fd, bytes, length, position);
    error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t position) { return pwrite64(fd, bytes, length, position); }

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(write, ssize_t, int, const void *, size_t);
    if (!path_of(fd)) return real_write(fd, bytes, length);
    int error = fault("write", path_of(fd));
    if (error > 0) {
        errno = error;
        return -1;
    }
    if (error < 0 && length > 1) length /= 2;
    if (!journal) return real_write(fd, bytes, length);
    pthread_mutex_lock(&lock);
    note_write(fd, bytes, length, lseek(fd, 0, SEEK_CUR));
    ssize_t done = real_write(fd, bytes, length);
    error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t pread64(int fd, void *bytes, size_t length, off_t position) {
    int error = path_of(fd) ? fault("read", path_of(fd)) : 0;
    if (error > 0) {
        errno = error;
        return -1;
    }
    return do_pread(fd, bytes, error < 0 ? part_of(length) : length, position);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t position) { return pread64(fd, bytes, length, position); }

ssize_t read(int fd, void *bytes, size_t length) {
    REAL(read, ssize_t, int, void *, size_t);
    if (path_of(fd)) FAIL("read", path_of(fd));
    return real_read(fd, bytes, length);
}

static int sync_any(int fd, int (*real)(int)) {
    const char *path = path_of(fd);
    if (!path) return real(fd);
    FAIL("fsync", path);
    pthread_mutex_lock(&lock);
    uint64_t until = numbers;
    pthread_mutex_unlock(&lock);
    if (real(fd) != 0) return -1;
    struct stat facts;
    if (journal && fstat(fd, &facts) == 0) {
        int is_folder = S_ISDIR(facts.st_mode);
        struct entry e = {.kind = is_folder ? SYNC_FOLDER : SYNC, .inode = facts.st_ino, .position = until};
        pthread_mutex_lock(&lock);
        note(e, NULL, NULL, is_folder ? path : NULL, NULL);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

int fsync(int fd) {
    REAL(fsync, int, int);
    return sync_any(fd, real_fsync);
}

int fdatasync(int fd) {
    REAL(fdatasync, int, int);
    return sync_any(fd, real_fdatasync);
}

int ftruncate64(int fd, off_t length) {
    REAL(ftruncate64, int, int, off_t);
    if (!path_of(fd)) return real_ftruncate64(fd, length);
    FAIL("truncate", path_of(fd));
    if (!journal) return real_ftruncate64(fd, length);
    pthread_mutex_lock(&lock);
    note_truncate(fd, length);
    int done = real_ftruncate64(fd, length), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int mode, off_t position, off_t length) {
    REAL(fallocate64, int, int, int, off_t, off_t);
    if (!path_of(fd)) return real_fallocate64(fd, mode, position, length);
    FAIL("fallocate", path_of(fd));
    if (!journal) return real_fallocate64(fd, mode, position, length);
    struct stat facts;
    pthread_mutex_lock(&lock);
    if (fstat(fd, &facts) != 0) give_up("fstat");
    hold_fd(fd, facts.st_ino);
    struct entry e = {.kind = EXTEND, .inode = facts.st_ino, .position = position + length, .old_length = facts.st_size};
    note(e, NULL, NULL, NULL, NULL);
    int done = real_fallocate64(fd, mode, position, length), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fallocate(int fd, int mode, off_t position, off_t length) { return fallocate64(fd, mode, position, length); }

int rename(const char *from, const char *to) {
    REAL(rename, int, const char *, const char *);
    char ours[PATH_BYTES], other[PATH_BYTES];
    if (!is_ours(from, ours) || !is_ours(to, other)) return real_rename(from, to);
    FAIL("rename", other);
    if (!journal) return real_rename(from, to);
    struct stat facts, replaced = {0};
    pthread_mutex_lock(&lock);
    int is_there = stat(ours, &facts) == 0;
    if (is_there) {
        if (S_ISREG(facts.st_mode)) hold(AT_FDCWD, ours, facts.st_ino, 0);
        if (stat(other, &replaced) == 0 && S_ISREG(replaced.st_mode)) hold(AT_FDCWD, other, replaced.st_ino, 0);
        note_path(RENAME, facts.st_ino, replaced.st_ino, ours, other);
    }
    int done = real_rename(from, to), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    char ours[PATH_BYTES], other[PATH_BYTES];
    if (!is_ours(from, ours) || !is_ours(to, other)) return do_linkat(from_at, from, to_at, to, flags);
    FAIL("link", other);
    struct stat facts;
    pthread_mutex_lock(&lock);
    int done = do_linkat(from_at, from, to_at, to, flags), error = errno;
    if (done == 0 && journal && stat(other, &facts) == 0) {
        hold(AT_FDCWD, other, facts.st_ino, 0);
        note_path(LINK, facts.st_ino, 0, ours, other);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlink(const char *path) {
    REAL(unlink, int, const char *);
    char ours[PATH_BYTES];
    if (!is_ours(path, ours)) return real_unlink(path);
    FAIL("unlink", ours);
    if (!journal) return real_unlink(path);
    struct stat facts;
    pthread_mutex_lock(&lock);
    if (stat(ours, &facts) == 0) {
        hold(AT_FDCWD, ours, facts.st_ino, 0);
        note_path(UNLINK, facts.st_ino, 0, ours, NULL);
    }
    int done = real_unlink(path), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir, int, const char *, mode_t);
    char ours[PATH_BYTES];
    if (!is_ours(path, ours)) return real_mkdir(path, mode);
    FAIL("mkdir", ours);
    pthread_mutex_lock(&lock);
    int done = real_mkdir(path, mode), error = errno;
    if (done == 0 && journal) note_path(MKDIR, 0, 0, ours, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int rmdir(const char *path) {
    REAL(rmdir, int, const char *);
    char ours[PATH_BYTES];
    if (!is_ours(path, ours) || !journal) return real_rmdir(path);
    pthread_mutex_lock(&lock);
    int done = real_rmdir(path), error = errno;
    if (done == 0) note_path(RMDIR, 0, 0, ours, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
