/*
 * Which functions of a running program are entered: hot PID BASE SYMBOLS SECONDS
 *
 * SYMBOLS has lines of ADDRESS NAME, as nm prints them, BASE is where the program is mapped, both in hexadecimal. A breakpoint
 * is put at the beginning of each function; the first thread that comes by takes it away again, and the name is printed, or all
 * of them where several are names of the same code. After so many seconds what is left is taken away, and the program goes on
 * by itself.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 1024
static const unsigned char BREAKPOINT = 0xcc;

struct function {
	unsigned long at;
	char *name;
	unsigned char first;
	int is_set;
};

static struct function *functions;
static size_t count;
static int memory;
static volatile sig_atomic_t is_over;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void over(int signal)
{
	(void)signal;
	is_over = 1;
}

static int by_address(const void *a, const void *b)
{
	unsigned long left = ((const struct function *)a)->at, right = ((const struct function *)b)->at;
	return left < right ? -1 : left > right;
}

static void read_symbols(const char *path, unsigned long base)
{
	static char name[1 << 16];
	unsigned long at;
	FILE *file = fopen(path, "re");
	if (!file)
		fail(path);
	while (fscanf(file, "%lx %65535s", &at, name) == 2) {
		functions = realloc(functions, (count + 1) * sizeof *functions);
		if (!functions)
			fail("functions");
		functions[count++] = (struct function){ .at = base + at, .name = strdup(name) };
	}
	fclose(file);
	qsort(functions, count, sizeof *functions, by_address);
}

/* Stops every thread; those that were not seen before are seized. */
static int stop_threads(int pid, int *threads, int seize)
{
	char path[64];
	int found = 0, status;
	struct dirent *entry;
	snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *folder = opendir(path);
	if (!folder)
		fail(path);
	while ((entry = readdir(folder)) && found < THREADS_MAX) {
		int thread = atoi(entry->d_name);
		if (!thread)
			continue;
		if (seize && ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACECLONE))
			fail("seize");
		ptrace(PTRACE_INTERRUPT, thread, 0, 0);
		threads[found++] = thread;
	}
	closedir(folder);
	if (seize)
		for (int i = 0; i < found; i++)
			waitpid(threads[i], &status, __WALL);
	return found;
}

/* The first of the functions that begin at this address. */
static struct function *begins_at(unsigned long at)
{
	struct function key = { .at = at };
	struct function *found = bsearch(&key, functions, count, sizeof *functions, by_address);
	while (found && found > functions && found[-1].at == at)
		found--;
	return found;
}

/* A thread that stands behind a breakpoint is put before it; its name is printed the first time. Whether it stood there. */
static int step_back(int thread)
{
	struct user_regs_struct registers;
	if (ptrace(PTRACE_GETREGS, thread, 0, &registers))
		return 0;
	struct function *hit = begins_at(registers.rip - 1);
	if (!hit)
		return 0;
	if (hit->is_set) {
		if (pwrite(memory, &hit->first, 1, (off_t)hit->at) != 1)
			fail("cannot take a breakpoint away");
		hit->is_set = 0;
		for (struct function *same = hit; same < functions + count && same->at == hit->at; same++)
			puts(same->name);
	}
	registers.rip--;
	ptrace(PTRACE_SETREGS, thread, 0, &registers);
	return 1;
}

int main(int argc, char **argv)
{
	static int threads[THREADS_MAX];
	char path[64];
	int status, thread, found;
	if (argc != 5) {
		fprintf(stderr, "usage: hot PID BASE SYMBOLS SECONDS\n");
		return 1;
	}
	int pid = atoi(argv[1]);
	read_symbols(argv[3], strtoul(argv[2], NULL, 16));
	found = stop_threads(pid, threads, 1);
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	memory = open(path, O_RDWR | O_CLOEXEC);
	if (memory < 0)
		fail(path);
	/* One breakpoint for all names of the same code: the second would be there for good, with the first taken for the code. */
	for (size_t i = 0; i < count; i++)
		if ((!i || functions[i - 1].at != functions[i].at) && pread(memory, &functions[i].first, 1, (off_t)functions[i].at) == 1)
			functions[i].is_set = pwrite(memory, &BREAKPOINT, 1, (off_t)functions[i].at) == 1;
	for (int i = 0; i < found; i++)
		ptrace(PTRACE_CONT, threads[i], 0, 0);
	/* Without SA_RESTART: the wait ends with the time. */
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = over }, NULL);
	alarm((unsigned)atoi(argv[4]));
	while (!is_over) {
		thread = waitpid(-1, &status, __WALL);
		if (thread < 0 && errno == EINTR)
			continue;
		if (thread < 0 || ((WIFEXITED(status) || WIFSIGNALED(status)) && thread == pid))
			break;
		if (!WIFSTOPPED(status))
			continue;
		int signal = WSTOPSIG(status), is_event = status >> 16;
		int is_ours = is_event || signal == SIGSTOP || (signal == SIGTRAP && step_back(thread));
		ptrace(PTRACE_CONT, thread, 0, is_ours ? 0 : signal);
	}
	found = stop_threads(pid, threads, 0);
	for (size_t i = 0; i < count; i++)
		if (functions[i].is_set && pwrite(memory, &functions[i].first, 1, (off_t)functions[i].at) != 1)
			fail("cannot take a breakpoint away");
	for (int i = 0; i < found; i++) {
		if (waitpid(threads[i], &status, __WALL) == threads[i] && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP && !(status >> 16))
			step_back(threads[i]);
		ptrace(PTRACE_DETACH, threads[i], 0, 0);
	}
	return 0;
}
