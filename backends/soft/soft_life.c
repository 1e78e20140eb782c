// SPDX-License-Identifier: MIT
/*
 * Birth and death of a soft device.
 *
 * The process is watched by its pidfd, which sits in one epoll fd with the eventfd of completions:
 * that epoll fd is what the core polls. The loss is told in completed() only when nothing of the device
 * can write memory any more, neither the process (reaped) nor a copy under way (finished or cut short).
 */
#include "soft_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <libsvm/space.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* linux/memfd.h, since Linux 6.3 */
#endif

#define DEVICE_MAGIC UINT64_C(0x74666f736d767373)

/* What the epoll fd says is ready. */
enum event_source {
	SOURCE_EVENT,
	SOURCE_PROCESS,
};

/* Fds that only the process needs: ours between their creation and the fork. */
struct inherited {
	int ctl_fd;
	int memory_fd;
	int parent_fd;
	int life_fd;
};

/* ---- Log lines, put together without stdio ---------------------------------------------------- */

struct line {
	char text[256];
	size_t length;
};

static void line_text(struct line *line, const char *text)
{
	while (*text && line->length < sizeof(line->text) - 1)
		line->text[line->length++] = *text++;
	line->text[line->length] = '\0';
}

static void line_number(struct line *line, uint64_t value, unsigned int base)
{
	char digits[24];
	size_t i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	line_text(line, base == 16 ? "0x" : "");
	line_text(line, &digits[i]);
}

static void log_open(const struct svm_backend_open *args, const char *what, const char *where,
		     int error)
{
	struct line line = { .length = 0 };

	if (!args->log)
		return;
	line_text(&line, "soft: ");
	line_text(&line, what);
	if (where) {
		line_text(&line, ": ");
		line_text(&line, where);
	}
	if (error) {
		line_text(&line, " error=");
		line_number(&line, (uint64_t)-error, 10);
	}
	args->log(args->log_data, SVM_LOG_ERROR, line.text);
}

static void log_death(struct svm_soft_device *dev, const siginfo_t *info)
{
	struct svm_soft_death *death = &dev->ctl->death;
	struct line line = { .length = 0 };

	if (!dev->log)
		return;
	line_text(&line, "soft: device process lost pid=");
	line_number(&line, (uint64_t)dev->pid, 10);
	if (info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED) {
		line_text(&line, " signal=");
		line_number(&line, (uint64_t)info->si_status, 10);
	} else if (atomic_load(&death->is_set)) {
		line_text(&line, " signal=");
		line_number(&line, (uint64_t)atomic_load(&death->signal), 10);
		line_text(&line,
			  atomic_load(&death->access) == SVM_ACCESS_WRITE ? " write=" : " touch=");
		line_number(&line, atomic_load(&death->addr), 16);
	}
	dev->log(dev->log_data, SVM_LOG_ERROR, line.text);
}

/* ---- Files and mappings ----------------------------------------------------------------------- */

static void close_fd(int *fd)
{
	/* Linux frees the number whatever close() returns. */
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* A memfd of a size that nobody can change. */
static int memory_file(const char *name, uint64_t size, int *ret_fd)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	int ret;

	if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	do {
		ret = ftruncate(fd, (off_t)size);
	} while (ret && errno == EINTR);
	if (ret || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		ret = -errno;
		close_fd(&fd);
		return ret;
	}
	*ret_fd = fd;
	return 0;
}

/* Keep size bytes of addresses for ourselves, aligned to 2 MiB. */
static int reserve(uint64_t size, void **ret_addr)
{
	uint64_t total = size + SVM_BLOCK_SIZE;
	uint8_t *map =
		mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head;

	if (map == MAP_FAILED)
		return -errno;
	head = (SVM_BLOCK_SIZE - (uint64_t)(uintptr_t)map % SVM_BLOCK_SIZE) % SVM_BLOCK_SIZE;
	if (head)
		(void)munmap(map, head);
	(void)munmap(map + head + size, SVM_BLOCK_SIZE - head);
	*ret_addr = map + head;
	return 0;
}

/* Map a file at a place that was reserved, for this process only: other devices' processes and
 * children of the application must not keep it alive. */
static int map_file(int fd, void *addr, uint64_t size)
{
	if (mmap(addr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -errno;
	return madvise(addr, size, MADV_DONTFORK) ? -errno : 0;
}

static int create_mappings(struct svm_soft_device *dev, struct inherited *in)
{
	uint64_t memory_size = dev->options.memory;
	void *map = NULL;
	int ret;

	ret = memory_file("svm-soft-ctl", sizeof(*dev->ctl), &in->ctl_fd);
	if (ret == 0)
		ret = memory_file("svm-soft-memory", memory_size, &in->memory_fd);
	if (ret == 0)
		ret = reserve(SVM_SOFT_OWN_SIZE, &map);
	if (ret)
		return ret;
	dev->own_base = (uint64_t)(uintptr_t)map;
	ret = reserve(svm_soft_home_size((uint32_t)dev->n_chunks), &map);
	if (ret)
		return ret;
	dev->home_base = (uint64_t)(uintptr_t)map;
	ret = reserve(SVM_SOFT_CTL_SIZE, &map);
	if (ret)
		return ret;
	dev->ctl = map;
	ret = map_file(in->ctl_fd, map, sizeof(*dev->ctl));
	if (ret)
		return ret;
	ret = reserve(memory_size, &map);
	if (ret)
		return ret;
	dev->memory = map;
	ret = map_file(in->memory_fd, map, memory_size);
	if (ret)
		return ret;
	/* Only faster: kernels without huge pages for shared memory say EINVAL. */
	(void)madvise(map, memory_size, MADV_HUGEPAGE);
	return 0;
}

static int create_files(struct svm_soft_device *dev, struct inherited *in)
{
	int life[2];

	dev->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->event_fd < 0)
		return -errno;
	dev->fault_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->fault_fd < 0)
		return -errno;
	dev->sync_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dev->sync_fd < 0)
		return -errno;
	in->parent_fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (in->parent_fd < 0)
		return -errno;
	if (pipe2(life, O_CLOEXEC))
		return -errno;
	in->life_fd = life[0];
	dev->life_fd = life[1];
	return 0;
}

static int create_epoll(struct svm_soft_device *dev)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = SOURCE_EVENT };
	struct epoll_event process = { .events = EPOLLIN, .data.u32 = SOURCE_PROCESS };

	dev->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (dev->epoll_fd < 0)
		return -errno;
	if (epoll_ctl(dev->epoll_fd, EPOLL_CTL_ADD, dev->event_fd, &event) ||
	    epoll_ctl(dev->epoll_fd, EPOLL_CTL_ADD, dev->pid_fd, &process))
		return -errno;
	return 0;
}

static void inherited_close(struct inherited *in)
{
	close_fd(&in->ctl_fd);
	close_fd(&in->memory_fd);
	close_fd(&in->parent_fd);
	close_fd(&in->life_fd);
}

/* ---- The process ------------------------------------------------------------------------------ */

static void timelines_init(struct svm_soft_device *dev)
{
	struct svm_soft_timeline *t = dev->timelines;
	struct svm_soft_ctl *ctl = dev->ctl;

	t[SVM_TIMELINE_BIND].n_entries = SVM_SOFT_BINDS;
	t[SVM_TIMELINE_BIND].done = &ctl->bind.done;
	t[SVM_TIMELINE_BIND].status = ctl->bind_status;
	t[SVM_TIMELINE_WORK].n_entries = SVM_SOFT_WORKS;
	t[SVM_TIMELINE_WORK].done = &ctl->work.done;
	t[SVM_TIMELINE_WORK].status = ctl->work_status;
	t[SVM_TIMELINE_COPY].n_entries = SVM_SOFT_COPIES;
	t[SVM_TIMELINE_COPY].done = &dev->copier.done;
	t[SVM_TIMELINE_COPY].status = dev->copier.status;
}

static int start_process(struct svm_soft_device *dev, const struct svm_backend_open *open_args,
			 const struct inherited *in)
{
	struct svm_soft_proc_args args = {
		.own_base = dev->own_base,
		.window_base = dev->window_base,
		.window_size = dev->window_size,
		.home_base = dev->home_base,
		.n_chunks = (uint32_t)dev->n_chunks,
		.n_engines = dev->options.n_engines,
		.faults = dev->options.faults,
		.ctl_fd = in->ctl_fd,
		.memory_fd = in->memory_fd,
		.host_fd = dev->options.host ? open_args->host_fd : -1,
		.event_fd = dev->event_fd,
		.fault_fd = dev->fault_fd,
		.sync_fd = dev->sync_fd,
		.parent_fd = in->parent_fd,
		.life_fd = in->life_fd,
	};
	int ret;

	ret = svm_soft_fork(&args, &dev->pid);
	if (ret < 0)
		return ret;
	dev->pid_fd = (int)syscall(SYS_pidfd_open, dev->pid, 0);
	return dev->pid_fd < 0 ? -errno : 0;
}

int svm_soft_sync_wait(struct svm_soft_device *dev)
{
	struct pollfd fds[] = {
		{ .fd = dev->sync_fd, .events = POLLIN },
		{ .fd = dev->pid_fd, .events = POLLIN },
	};
	uint64_t count;

	for (;;) {
		if (read(dev->sync_fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
			return atomic_load(&dev->ctl->sync_status);
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			return -ENODEV;
		/* Whoever left now would take the answer for that to the next question. */
		if (poll(fds, 2, -1) < 0 && errno != EINTR && errno != EAGAIN && errno != ENOMEM)
			return -errno;
	}
}

/* A launch that met a fault which could not be served fails by itself, before the loss is told. The
 * process is gone: its side of the rings is ours. */
static void settle_work(struct svm_soft_device *dev)
{
	struct svm_soft_timeline *work = &dev->timelines[SVM_TIMELINE_WORK];
	int status = atomic_load(&dev->ctl->death.status);
	uint64_t done;

	if (!atomic_load(&dev->ctl->death.is_set) || status >= 0 || status == -ENODEV)
		return;
	pthread_mutex_lock(&work->lock);
	done = atomic_load(work->done);
	if (done >= work->reported && done < work->submitted) {
		atomic_store(&work->status[done % work->n_entries], status);
		atomic_store(work->done, done + 1);
	}
	pthread_mutex_unlock(&work->lock);
}

/* LOCKING: life_lock. Reap the process if it has ended: true, once. flags 0 waits for its end. */
static bool reap(struct svm_soft_device *dev, int flags, siginfo_t *ret_info)
{
	siginfo_t info;
	int ret;

	if (atomic_load(&dev->is_dead))
		return false;
	do {
		memset(&info, 0, sizeof(info));
		ret = waitid(P_PIDFD, (id_t)dev->pid_fd, &info, WEXITED | flags);
	} while (ret < 0 && errno == EINTR);
	if (ret == 0 && info.si_pid == 0)
		return false;
	/* ECHILD: the application waits for any child, or ignores SIGCHLD. Gone all the same. */
	svm_soft_copier_halt(dev);
	settle_work(dev);
	(void)epoll_ctl(dev->epoll_fd, EPOLL_CTL_DEL, dev->pid_fd, NULL);
	/* It may have ended between disarming the event and sending it. */
	atomic_store(&dev->ctl->event_armed, 1);
	atomic_store(&dev->is_dead, true);
	*ret_info = info;
	return true;
}

bool svm_soft_stopped(struct svm_soft_device *dev)
{
	bool still;

	if (!atomic_load(&dev->is_dead))
		return false;
	pthread_mutex_lock(&dev->copier.lock);
	still = dev->copier.n_running == 0;
	pthread_mutex_unlock(&dev->copier.lock);
	return still;
}

void svm_soft_event_ack(void *device)
{
	struct svm_soft_device *dev = device;
	struct epoll_event events[2];
	bool died = false;
	siginfo_t info;
	uint64_t count;
	int n;

	do {
		n = epoll_wait(dev->epoll_fd, events, 2, 0);
	} while (n < 0 && errno == EINTR);
	for (int i = 0; i < n; i++) {
		if (events[i].data.u32 == SOURCE_EVENT) {
			/* EAGAIN: another thread was first. */
			(void)!read(dev->event_fd, &count, sizeof(count));
			/* Before the caller looks at completed(): what completes later signals again. */
			atomic_store(&dev->ctl->event_armed, 1);
		} else if (pthread_mutex_trylock(&dev->life_lock) == 0) {
			/* Where it is taken, kill() is at work and signals when it is done. */
			died = reap(dev, WNOHANG, &info);
			pthread_mutex_unlock(&dev->life_lock);
		}
	}
	if (died)
		log_death(dev, &info);
}

void svm_soft_kill_device(void *device)
{
	struct svm_soft_device *dev = device;
	siginfo_t info;

	atomic_store(&dev->is_killed, true);
	pthread_mutex_lock(&dev->life_lock);
	if (!atomic_load(&dev->is_dead)) {
		/* ESRCH: it is just ending. */
		(void)syscall(SYS_pidfd_send_signal, dev->pid_fd, SIGKILL, NULL, 0);
		(void)reap(dev, 0, &info);
	}
	pthread_mutex_unlock(&dev->life_lock);
	svm_soft_copier_drain(dev);
	svm_soft_signal(dev);
}

/* ---- Open and close --------------------------------------------------------------------------- */

static int locks_init(struct svm_soft_device *dev)
{
	pthread_mutex_t *locks[] = {
		&dev->life_lock,	 &dev->memory_lock,	  &dev->span_op_lock,
		&dev->span_lock,	 &dev->timelines[0].lock, &dev->timelines[1].lock,
		&dev->timelines[2].lock,
	};
	int ret;

	for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]); i++) {
		ret = -pthread_mutex_init(locks[i], NULL);
		if (ret < 0)
			return ret; /* glibc's never fail without attributes: nothing to undo */
	}
	return 0;
}

static struct svm_soft_device *device_new(const struct svm_backend_open *args,
					  const struct svm_soft_options *options)
{
	struct svm_soft_device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return NULL;
	dev->magic = DEVICE_MAGIC;
	dev->options = *options;
	if (args->host_fd < 0)
		dev->options.host = false;
	dev->caps = svm_soft_options_caps(&dev->options);
	dev->window_base = args->window_base;
	dev->window_size = args->window_size;
	dev->log = args->log;
	dev->log_data = args->log_data;
	dev->pid = -1;
	dev->pid_fd = -1;
	dev->epoll_fd = -1;
	dev->event_fd = -1;
	dev->fault_fd = -1;
	dev->sync_fd = -1;
	dev->life_fd = -1;
	return dev;
}

/* Also for devices that are half built; the process is reaped. */
static void device_free(struct svm_soft_device *dev)
{
	close_fd(&dev->epoll_fd);
	close_fd(&dev->pid_fd);
	close_fd(&dev->event_fd);
	close_fd(&dev->fault_fd);
	close_fd(&dev->sync_fd);
	close_fd(&dev->life_fd);
	/* Whole mappings, which can always be taken away. */
	if (dev->memory)
		(void)munmap(dev->memory, dev->options.memory);
	if (dev->ctl)
		(void)munmap(dev->ctl, SVM_SOFT_CTL_SIZE);
	if (dev->own_base)
		(void)munmap((void *)(uintptr_t)dev->own_base, SVM_SOFT_OWN_SIZE);
	if (dev->home_base)
		(void)munmap((void *)(uintptr_t)dev->home_base,
			     svm_soft_home_size((uint32_t)dev->n_chunks));
	svm_soft_mem_finish(dev);
	dev->magic = 0;
	free(dev);
}

/* After a failed start: end the process without the machinery that is not there yet. */
static void abandon_process(struct svm_soft_device *dev)
{
	if (dev->pid <= 0)
		return;
	(void)kill(dev->pid, SIGKILL);
	while (waitpid(dev->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int device_start(struct svm_soft_device *dev, const struct svm_backend_open *args)
{
	struct inherited in = { -1, -1, -1, -1 };
	int ret;

	ret = create_mappings(dev, &in);
	if (ret == 0)
		ret = create_files(dev, &in);
	if (ret < 0)
		goto err_inherited;
	timelines_init(dev);
	atomic_store(&dev->ctl->event_armed, 1);
	ret = start_process(dev, args, &in);
	if (ret == 0)
		ret = create_epoll(dev);
	if (ret == 0)
		ret = svm_soft_sync_wait(dev);
	if (ret == 0)
		ret = svm_soft_copier_start(dev);
	if (ret < 0)
		abandon_process(dev);
err_inherited:
	inherited_close(&in);
	return ret;
}

static int open_check(const struct svm_backend_open *args)
{
	uint64_t end;

	if (args->size < sizeof(*args) || !args->options)
		return -EINVAL;
	if (args->window_base == 0 || args->window_size == 0)
		return -EINVAL;
	if ((args->window_base | args->window_size) % SVM_PAGE_SIZE)
		return -EINVAL;
	if (__builtin_add_overflow(args->window_base, args->window_size, &end))
		return -EINVAL;
	return end > SVM_SOFT_VA_END ? -ERANGE : 0;
}

int svm_soft_open(const struct svm_backend_open *args, void **ret_dev)
{
	struct svm_soft_options options;
	struct svm_soft_device *dev;
	const char *where;
	const char *why;
	int ret;

	ret = open_check(args);
	if (ret < 0)
		return ret;
	if (args->import) {
		log_open(args, "it is a process of its own: no address space can be imported", NULL,
			 0);
		return -EOPNOTSUPP;
	}
	ret = svm_soft_options_parse(args->options, &options, &why, &where);
	if (ret < 0) {
		log_open(args, why, where, 0);
		return ret;
	}
	dev = device_new(args, &options);
	if (!dev)
		return -ENOMEM;
	ret = locks_init(dev);
	if (ret == 0)
		ret = svm_soft_mem_init(dev);
	if (ret < 0)
		goto err_device;
	ret = svm_soft_copier_init(dev);
	if (ret < 0)
		goto err_device;
	ret = device_start(dev, args);
	if (ret < 0)
		goto err_copier;
	*ret_dev = dev;
	return 0;
err_copier:
	log_open(args, "device does not start", NULL, ret);
	svm_soft_copier_finish(dev);
err_device:
	device_free(dev);
	return ret;
}

void svm_soft_close(void *device)
{
	struct svm_soft_device *dev = device;

	svm_soft_kill_device(dev);
	svm_soft_copier_finish(dev);
	device_free(dev);
}
