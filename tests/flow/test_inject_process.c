/* SPDX-License-Identifier: MIT */
/*
 * Shown here: what flow_inject shows of the library's table of system calls, for all the others: those of soft devices and
 * their processes, of the C library's threads, and those that the table has no failures for (close, write, mremap, clone).
 *
 * A flow runs in a child whose listed system calls, and those of its threads and processes, are asked about
 * (seccomp_unotify(2)): a thread here lets them go on, or fails the one whose turn it is.
 *
 * A close() that fails has closed nevertheless, as on Linux (close(2)). A mapping of the child that could not be unmapped is
 * unmapped by the child in the end.
 */
#include "inject_scene.h"

#include "trial.h"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define MAX_ERRORS 4u

/* What the manual page of each lists, of what can be where it is called; positive, as the kernel's interface wants it. Not what
 * would be a mistake of ours (EINVAL, EBADF, EFAULT), and not what the C library ends the program for. */
static const struct {
	int number;
	const char *name;
	int errors[MAX_ERRORS];
} calls[] = {
	{ SYS_memfd_create, "memfd_create", { EMFILE, ENFILE, ENOMEM } },
	{ SYS_ftruncate, "ftruncate", { EINTR } },
	{ SYS_mmap, "mmap", { ENOMEM, EAGAIN, ENFILE } },
	{ SYS_munmap, "munmap", { ENOMEM } },
	{ SYS_mremap, "mremap", { ENOMEM, EAGAIN } },
	{ SYS_mprotect, "mprotect", { ENOMEM } },
	{ SYS_madvise, "madvise", { EAGAIN } },
	{ SYS_eventfd2, "eventfd2", { EMFILE, ENFILE, ENODEV, ENOMEM } },
	{ SYS_pidfd_open, "pidfd_open", { EMFILE, ENFILE, ENODEV, ENOMEM } },
	{ SYS_pipe2, "pipe2", { EMFILE, ENFILE } },
	{ SYS_epoll_create1, "epoll_create1", { EMFILE, ENOMEM } },
	{ SYS_epoll_ctl, "epoll_ctl", { ENOMEM, ENOSPC } },
	{ SYS_clone, "clone", { EAGAIN, ENOMEM } },
	{ SYS_clone3, "clone3", { EAGAIN, ENOMEM } },
	{ SYS_io_uring_register, "io_uring_register", { ENOMEM, EPERM } },
	{ SYS_prctl, "prctl", { EINVAL } },
	{ SYS_read, "read", { EINTR } },
	{ SYS_write, "write", { EINTR } },
	{ SYS_close, "close", { EINTR, EIO } },
	{ SYS_waitid, "waitid", { EINTR } },
	{ SYS_wait4, "wait4", { EINTR } },
	{ SYS_ppoll, "ppoll", { EINTR, ENOMEM } },
#ifdef SYS_poll
	{ SYS_poll, "poll", { EINTR, ENOMEM } },
#endif
#ifdef SYS_epoll_wait
	{ SYS_epoll_wait, "epoll_wait", { EINTR } },
#endif
	{ SYS_epoll_pwait, "epoll_pwait", { EINTR } },
	{ SYS_futex, "futex", { EINTR, EAGAIN } },
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* ---- Failing on demand ------------------------------------------------------------------------- */

/* Shared with the child. */
static struct strike {
	unsigned int call;
	int error; /* 0: none fails */
	_Atomic unsigned int left;
	_Atomic bool armed;
	_Atomic unsigned int seen[CALLS]; /* while armed */
	_Atomic int kept_fd;		  /* -1: none */
	_Atomic uint64_t kept_addr;
	_Atomic uint64_t kept_size;
	pid_t child;
	_Atomic pid_t by; /* the thread whose call failed */
} * strike;

static bool is_thread_of(pid_t process, pid_t thread)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)process, (int)thread);
	return access(path, F_OK) == 0;
}

/* Of the C library, which ends the program if the stack of a thread that is gone cannot be unmapped: with a guard page or
 * two. */
static bool is_stack(uint64_t size)
{
	pthread_attr_t attr;
	size_t stack = 0;

	if (size >= SVM_TRIAL_STACK && size <= SVM_TRIAL_STACK + 2u * PAGE)
		return true;

	if (pthread_attr_init(&attr) == 0) {
		(void)pthread_attr_getstacksize(&attr, &stack);
		(void)pthread_attr_destroy(&attr);
	}
	return size >= stack && size <= stack + 2u * PAGE;
}

/* The file behind the child's descriptor goes; the number stays, with another file. */
static void close_for(int listener, const struct seccomp_notif *call)
{
	struct seccomp_notif_addfd add = { .id = call->id,
					   .flags = SECCOMP_ADDFD_FLAG_SETFD,
					   .newfd = (uint32_t)call->data.args[0],
					   .newfd_flags = O_CLOEXEC };
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	add.srcfd = (uint32_t)fd;
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0)
		atomic_store(&strike->kept_fd, (int)call->data.args[0]);
	(void)close(fd);
}

/* 0: go on. */
static int strikes(int listener, const struct seccomp_notif *call)
{
	bool own = is_thread_of(strike->child, (pid_t)call->pid);
	unsigned int c = 0;

	while (c < CALLS && calls[c].number != call->data.nr)
		c++;
	if (c == CALLS || !atomic_load(&strike->armed))
		return 0;
	if (call->data.nr == SYS_munmap && is_stack(call->data.args[1]))
		return 0;
	/* Only to add; to take away what is there always works. */
	if (call->data.nr == SYS_epoll_ctl && call->data.args[1] != EPOLL_CTL_ADD)
		return 0;
	/* Only to wait. */
	if (call->data.nr == SYS_futex && (call->data.args[1] & FUTEX_CMD_MASK) != FUTEX_WAIT &&
	    (call->data.args[1] & FUTEX_CMD_MASK) != FUTEX_WAIT_BITSET)
		return 0;
	/* Only to ask for what the kernel may not tell; names are not looked at. */
	if (call->data.nr == SYS_prctl && call->data.args[0] != PR_GET_TID_ADDRESS)
		return 0;
	atomic_fetch_add(&strike->seen[c], 1u);
	if (!strike->error || c != strike->call || atomic_load(&strike->left) == 0 ||
	    atomic_fetch_sub(&strike->left, 1u) != 1u)
		return 0;
	atomic_store(&strike->by, (pid_t)call->pid);
	if (call->data.nr == SYS_close && own)
		close_for(listener, call);
	if (call->data.nr == SYS_munmap && own) {
		atomic_store(&strike->kept_addr, call->data.args[0]);
		atomic_store(&strike->kept_size, call->data.args[1]);
	}
	return strike->error;
}

/* Until nobody is left who could ask. */
static void supervise(int listener)
{
	struct pollfd fd = { .fd = listener, .events = POLLIN };

	for (;;) {
		/* The kernel may know longer structures: ours are the first versions, which it fills and takes. */
		struct seccomp_notif call = { 0 };
		struct seccomp_notif_resp answer = { 0 };

		if (poll(&fd, 1, -1) < 0 && errno != EINTR)
			break;
		if (fd.revents & (POLLHUP | POLLERR | POLLNVAL))
			break;
		if (!(fd.revents & POLLIN) || ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue; /* who asked is gone */
		answer.id = call.id;
		answer.error = -strikes(listener, &call);
		if (answer.error == 0)
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		/* ENOENT: who asked was killed meanwhile (seccomp_unotify(2)). */
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

/* In the child. Returns the listener. */
static int filter_calls(void)
{
	struct sock_filter code[CALLS + 3u];
	struct sock_fprog program = { .filter = code };
	unsigned short n = 0;
	int listener;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (unsigned int c = 0; c < CALLS; c++, n++)
		code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
						       (uint32_t)calls[c].number,
						       (unsigned char)(CALLS - c), 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	program.len = n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	return listener < 0 ? -errno : listener;
}

static unsigned int n_injections;

/* ---- One run ------------------------------------------------------------------------------------- */

struct run {
	struct svm_fixture *f;
	const struct flow *flow;
	uint32_t loop;
	int sockets[2]; /* the child's end second */
};

/* fd < 0: there is none, which is told. */
static void send_fd(int to, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	char byte = 0;
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	if (fd < 0)
		message.msg_controllen = 0;
	assert_int_equal(sendmsg(to, &message, 0), 1);
}

/* -1: it has none. */
static int receive_fd(int from)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	char byte;
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *header;
	int fd = -1;

	if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(header), sizeof(int));
	return fd;
}

/* Until the run's child has told whom to listen to, and then as long as it or a process of it lives. */
static void *supervise_run(void *arg)
{
	const struct run *run = arg;
	int listener = receive_fd(run->sockets[0]);

	if (listener >= 0) {
		supervise(listener);
		(void)close(listener);
	}
	return NULL;
}

static void log_line(void *data, int level, const char *line)
{
	(void)data;
	(void)level;
	(void)fprintf(stderr, "# %s\n", line);
}

/* Of no consequence: a flow has to succeed in spite of it. */
static bool is_nothing(unsigned int call, int error)
{
	return error == EINTR || calls[call].number == SYS_close || calls[call].number == SYS_futex;
}

/* What the child ends with where nobody can be supervised. */
#define STATUS_NO_FILTER 77

static void run_flow(void *arg)
{
	const struct run *run = arg;
	struct scene s = { .f = run->f, .may_die = true };
	int listener = filter_calls();
	int r;

	send_fd(run->sockets[1], listener);
	if (listener < 0)
		_exit(STATUS_NO_FILTER);
	(void)close(listener);
	fixture_recount(s.f);
	scene_log = log_line;
	strike->child = getpid();
	(void)snprintf(s.what, sizeof(s.what), "%s: %s number %u: %s", run->flow->name,
		       strike->error ? calls[strike->call].name : "nothing",
		       atomic_load(&strike->left), strerror(strike->error));
	r = act_armed(&s, run->flow, run->loop, &strike->armed);
	if (r < 0 && (strike->error == 0 || is_nothing(strike->call, strike->error)))
		fail_msg("%s: %s", s.what, strerror(-r));
	check_and_end(&s);
	/* If they failed, the count below would find what they left. */
	if (atomic_load(&strike->kept_size))
		(void)munmap((void *)(uintptr_t)atomic_load(&strike->kept_addr), // NOLINT
			     atomic_load(&strike->kept_size));
	if (atomic_load(&strike->kept_fd) >= 0)
		(void)close(atomic_load(&strike->kept_fd));
	if (fixture_leaks(s.f))
		fail_msg("%s: something is left over", s.what);
}

/* error 0: only count, into strike->seen. False: the kernel lets us supervise nobody. */
static bool run_once(struct svm_fixture *f, const struct flow *flow, uint32_t loop,
		     unsigned int call, unsigned int nth, int error)
{
	static char text[4096];
	struct run run = { .f = f, .flow = flow, .loop = loop };
	pthread_t supervisor;
	int status;

	strike->call = call;
	strike->error = error;
	atomic_store(&strike->left, nth);
	atomic_store(&strike->armed, false);
	atomic_store(&strike->kept_fd, -1);
	atomic_store(&strike->kept_size, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, run.sockets), 0);
	assert_int_equal(pthread_create(&supervisor, NULL, supervise_run, &run), 0);
	status = fixture_in_child(run_flow, &run, text, sizeof(text));
	assert_int_equal(pthread_join(supervisor, NULL), 0);
	(void)close(run.sockets[0]);
	(void)close(run.sockets[1]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_NO_FILTER)
		return false;
	if (status)
		fail_msg("%s: %s number %u (by thread %d of %d): %s: %s %d\n%s", flow->name,
			 error ? calls[call].name : "nothing", nth, (int)strike->by,
			 (int)strike->child, strerror(error),
			 WIFSIGNALED(status) ? "signal" : "status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), text);
	return true;
}

static void inject(struct svm_fixture *f, const struct flow *flow, uint32_t loop)
{
	unsigned int n_calls[CALLS];

	for (unsigned int c = 0; c < CALLS; c++)
		atomic_store(&strike->seen[c], 0u);
	if (!run_once(f, flow, loop, 0, 0, 0)) {
		print_message("the kernel lets nobody be asked about system calls\n");
		skip();
	}
	for (unsigned int c = 0; c < CALLS; c++)
		n_calls[c] = atomic_load(&strike->seen[c]);
	for (unsigned int c = 0; c < CALLS; c++)
		for (unsigned int e = 0; e < MAX_ERRORS && calls[c].errors[e]; e++)
			for (unsigned int nth = 1; nth <= n_calls[c];
			     nth = fixture_next_failure(nth + nth / 4u)) {
				fixture_watchdog(60);
				(void)run_once(f, flow, loop, c, nth, calls[c].errors[e]);
				n_injections += atomic_load(&strike->left) == 0;
			}
}

static void each_call_fails_once(struct svm_fixture *f, const char *name)
{
	static const uint32_t loops[] = { SVM_LOOP_EPOLL, SVM_LOOP_IO_URING };

	if (fixture_sanitized()) {
		print_message("a sanitizer does not live with failures of its own system calls\n");
		skip();
	}
	/* Kernels report at its beginning. */
	assert_true(sizeof(*strike) <= FIXTURE_SCRATCH / 2u);
	strike = (struct strike *)((char *)f->scratch + FIXTURE_SCRATCH / 2u);
	n_injections = 0;
	for (unsigned int i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
		if (strcmp(flows[i].name, name) != 0)
			continue;
		for (unsigned int l = 0; l < (fixture_quick() == 2 ? 1u : 2u); l++)
			if (has_loop(f, loops[l]))
				inject(f, &flows[i], loops[l]);
	}
	print_message("%s: %u failures\n", name, n_injections);
	assert_true(n_injections > 0);
}

#define FLOW(function, name)                        \
	static void function(struct svm_fixture *f) \
	{                                           \
		each_call_fails_once(f, name);      \
	}

FLOW(space_comes_and_goes, "space")
FLOW(memory_comes_and_goes, "alloc")
FLOW(memory_is_registered, "register")
FLOW(the_cpu_faults, "cpu fault")
FLOW(a_device_faults, "device fault")
FLOW(memory_is_acquired, "acquire")
FLOW(memory_is_prefetched, "prefetch")
FLOW(memory_is_evicted, "evict")
FLOW(memory_is_mapped_in_place, "advise")
FLOW(memory_is_pinned, "pin")
FLOW(a_device_comes_and_goes, "device")
FLOW(a_device_is_lost, "loss")
FLOW(the_process_forks, "fork")

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(space_comes_and_goes, FIXTURE_ONCE),
		FIXTURE_CASE(memory_comes_and_goes, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_registered, FIXTURE_ONCE),
		FIXTURE_CASE(the_cpu_faults, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_faults, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_acquired, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_prefetched, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_evicted, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_mapped_in_place, FIXTURE_ONCE),
		FIXTURE_CASE(memory_is_pinned, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_comes_and_goes, FIXTURE_ONCE),
		FIXTURE_CASE(a_device_is_lost, FIXTURE_ONCE),
		FIXTURE_CASE(the_process_forks, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
