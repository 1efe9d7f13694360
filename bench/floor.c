/*
 * The floor: reads what a plan names, as often as it says, and throws it away.
 *
 *     floor PLAN          until it is ended
 *     floor PLAN check    once, and says how many of the entries are not there
 *
 * A line of the plan is HOW <tab> TIMES-A-SECOND <tab> FOLDER <tab> NAME. Kept files stay open and are read from their start;
 * opened ones are opened, read to their end and closed; listed ones are folders; of sized ones only the attributes are taken,
 * and room is statfs. A folder of "-" stands for a name that is a whole path; another one is opened once and stays open.
 * What comes less than once a second is spread over the seconds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum how { KEPT, OPENED, LISTED, SIZED, ROOM, HOWS };
static const char *const words[HOWS] = { "kept", "opened", "listed", "sized", "room" };

struct entry {
	enum how how;
	double times, due;
	int folder, file;
	char *name;
};

static struct entry *entries;
static size_t count;
static char bytes[1 << 16];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The open folder of a path: one descriptor for all entries in it. */
static int folder_of(const char *path)
{
	static struct { char *path; int fd; } *known;
	static size_t folders;
	if (!strcmp(path, "-"))
		return AT_FDCWD;
	for (size_t i = 0; i < folders; i++)
		if (!strcmp(known[i].path, path))
			return known[i].fd;
	known = realloc(known, (folders + 1) * sizeof *known);
	if (!known)
		fail("folders");
	known[folders].path = strdup(path);
	known[folders].fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return known[folders++].fd;
}

static int read_open(int fd)
{
	off_t at = 0;
	ssize_t got;
	while ((got = pread(fd, bytes, sizeof bytes, at)) > 0)
		at += got;
	return got < 0 ? -1 : 0;
}

/* Does what one entry says; -1 where it is not there. */
static int once(struct entry *e)
{
	struct stat attributes;
	struct statfs room;
	int fd, result;
	switch (e->how) {
	case KEPT:
		if (e->file < 0)
			e->file = openat(e->folder, e->name, O_RDONLY | O_CLOEXEC);
		return e->file < 0 ? -1 : read_open(e->file);
	case OPENED:
		fd = openat(e->folder, e->name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -1;
		result = read_open(fd);
		close(fd);
		return result;
	case LISTED:
		fd = openat(e->folder, e->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -1;
		while ((result = getdents64(fd, bytes, sizeof bytes)) > 0) {}
		close(fd);
		return result;
	case SIZED:
		return fstatat(e->folder, e->name, &attributes, 0);
	case ROOM:
		return statfs(e->name, &room);
	default:
		return -1;
	}
}

static void take(char *line)
{
	char *how = strtok(line, "\t"), *times = strtok(NULL, "\t"), *folder = strtok(NULL, "\t"), *name = strtok(NULL, "\n");
	struct entry e = { .how = HOWS, .file = -1 };
	for (int i = 0; how && name && i < HOWS; i++)
		if (!strcmp(how, words[i]))
			e.how = i;
	if (e.how == HOWS) {
		fprintf(stderr, "line %zu of the plan is not HOW, TIMES, FOLDER and NAME\n", count + 1);
		exit(1);
	}
	e.times = atof(times);
	e.due = e.times < 1 ? (double)(count * 618 % 1000) / 1000 : 0;
	e.folder = folder_of(folder);
	e.name = strdup(name);
	entries = realloc(entries, (count + 1) * sizeof *entries);
	if (!entries || !e.name)
		fail("entries");
	entries[count++] = e;
}

int main(int argc, char **argv)
{
	static char line[1 << 14];
	struct rlimit files;
	struct timespec next;
	FILE *plan = argc > 1 ? fopen(argv[1], "re") : NULL;
	if (!plan)
		fail(argc > 1 ? argv[1] : "usage: floor PLAN [check]");
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	while (fgets(line, sizeof line, plan))
		take(line);
	fclose(plan);
	if (argc > 2) {
		size_t gone = 0;
		for (size_t i = 0; i < count; i++)
			gone += once(&entries[i]) < 0;
		printf("%zu entries, %zu are not there\n", count, gone);
		return 0;
	}
	for (clock_gettime(CLOCK_MONOTONIC, &next);; next.tv_sec++) {
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		for (size_t i = 0; i < count; i++)
			for (entries[i].due += entries[i].times; entries[i].due >= 1; entries[i].due--)
				once(&entries[i]);
	}
}
