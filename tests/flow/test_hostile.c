/* SPDX-License-Identifier: MIT */
/*
 * Shown here: a backend that lies harms nobody else. Beside a soft device it is given memory and asked for it back, again
 * and again; each call returns, what the soft device and the CPU hold stays as it is, and what the liar held is there
 * again, or is said to be lost.
 */
#include "fixture.h"

#include "hostile_backend.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE   FIXTURE_PAGE
#define BLOCK  FIXTURE_BLOCK
#define HOST   ((struct svm_location){ .kind = SVM_LOCATION_HOST })
#define N      6u /* blocks that the liar is given, in a memory of 4 */
#define ROUNDS 12u

static sigjmp_buf jump;

static void on_signal(int number)
{
	siglongjmp(jump, number);
}

/* A word, or the signal of its touch in *ret_signal. */
static uint64_t read_word(const void *addr, int *ret_signal)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old[2];
	volatile uint64_t value = 0;

	sigemptyset(&action.sa_mask);
	assert_int_equal(sigaction(SIGBUS, &action, &old[0]), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, &old[1]), 0);
	*ret_signal = sigsetjmp(jump, 1);
	if (*ret_signal == 0)
		value = *(const volatile uint64_t *)addr;
	assert_int_equal(sigaction(SIGBUS, &old[0], NULL), 0);
	assert_int_equal(sigaction(SIGSEGV, &old[1], NULL), 0);
	return value;
}

struct scene {
	struct svm_fixture *f;
	uint32_t lies;
	struct svm_device *liar;
	struct svm_device *honest;
	char *lent; /* N blocks for the liar */
	char *kept; /* 2 blocks: the soft device's, and the CPU's */
	unsigned int n_errors;
	unsigned int n_lost;
	bool was_lost;	/* the liar, when last looked at */
	bool worthless; /* bytes that the liar had mean nothing */
};

/* Bytes may stay with a device that will not give them: as long as they do, touches are refused. */
static void check_lent(struct scene *s)
{
	for (unsigned int page = 0; page < N * BLOCK / PAGE; page += 37) {
		char *at = s->lent + page * PAGE;
		uint64_t value;
		int number;
		int r = -EIO;

		for (unsigned int i = 0; i < 200 && r < 0; i++) {
			r = svm_prefetch(s->f->space, at, PAGE, HOST, NULL);
			if (fixture_page(s->f, at).flags & SVM_PAGE_POISONED)
				break;
		}
		value = read_word(at, &number);
		if (fixture_page(s->f, at).flags & SVM_PAGE_POISONED) {
			assert_int_not_equal(number, 0);
			s->n_lost++;
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(number, 0);
		if (!s->worthless)
			assert_int_equal(value, fixture_word(1, page * PAGE / 8u));
	}
}

static bool is_lost(const struct scene *s)
{
	struct svm_device_info info = { .size = sizeof(info) };

	assert_int_equal(svm_device_query(s->liar, &info), 0);
	return info.is_lost;
}

static void check_others(struct scene *s)
{
	fixture_check_on(s->f, s->honest, s->kept, BLOCK, 2);
	fixture_check(s->kept + BLOCK, BLOCK, 3);
	fixture_assert_at(s->f, s->kept, BLOCK, (uint16_t)(1u << svm_device_id(s->honest)), false);
	fixture_check_on(s->f, s->honest, s->kept + BLOCK, BLOCK, 3);
}

static void ask(struct scene *s, int r)
{
	s->n_errors += r < 0;
}

static void use_liar(struct scene *s, unsigned int round)
{
	struct svm_space *space = s->f->space;
	struct svm_location there = svm_device_location(s->liar);
	char *block = s->lent + round % N * BLOCK;
	struct svm_access_range range = { .addr = block + BLOCK / 4u,
					  .size = BLOCK / 2u,
					  .access = SVM_ACCESS_WRITE };
	struct svm_access *access = NULL;
	int number;

	ask(s, svm_prefetch(space, block, BLOCK, there, NULL));
	ask(s, svm_acquire(s->liar, &range, 1, 0, &access, NULL));
	if (access)
		assert_int_equal(svm_release(access, NULL), 0);
	if (svm_pin(space, block, PAGE, there) == 0)
		assert_int_equal(svm_unpin(space, block, PAGE, there), 0);
	else
		s->n_errors++;
	(void)read_word(block + 17u * PAGE, &number);
	ask(s, svm_prefetch(space, s->lent, N * BLOCK, round % 2u ? HOST : there, NULL));
}

static void run(struct svm_fixture *f, uint32_t lies, const char *what, bool must_be_lost)
{
	/* Short, for those who have to be given up; the honest device must keep to it, too. */
	const struct svm_space_options options = { .size = sizeof(options),
						   .op_timeout_ms = must_be_lost ? 3000 : 0 };
	struct scene s = { .f = f, .lies = lies, .worthless = (lies & HOSTILE_SAME_CHUNK) != 0 };
	char name[96];
	int r = -EBUSY;

	fixture_watchdog(60);
	hostile_plug();
	fixture_space(f, &options);
	s.honest = fixture_open(f, f->device);
	(void)snprintf(name, sizeof(name), "hostile:seed=%llu:lies=%u:memory=4",
		       (unsigned long long)fixture_random(f), lies);
	s.liar = fixture_open(f, name);
	s.kept = fixture_alloc(f, 2 * BLOCK, 0);
	fixture_fill(s.kept, BLOCK, 2);
	fixture_fill(s.kept + BLOCK, BLOCK, 3);
	assert_int_equal(svm_prefetch(f->space, s.kept, BLOCK, svm_device_location(s.honest), NULL),
			 0);
	s.lent = fixture_alloc(f, N * BLOCK, 0);
	for (unsigned int b = 0; b < N; b++)
		for (unsigned int page = 0; page < BLOCK / PAGE; page++) {
			uint64_t at = b * BLOCK + page * PAGE;

			*(uint64_t *)(void *)(s.lent + at) = fixture_word(1, at / 8u);
		}
	for (unsigned int round = 0; round < ROUNDS; round++)
		use_liar(&s, round);
	check_lent(&s);
	check_others(&s);
	s.was_lost = is_lost(&s);
	if (must_be_lost && !s.was_lost)
		fail_msg("%s: the device is not lost", what);
	for (unsigned int i = 0; i < 100 && r < 0; i++)
		r = svm_device_close(s.liar);
	assert_int_equal(r, 0);
	check_lent(&s);
	check_others(&s);
	assert_int_equal(svm_device_close(s.honest), 0);
	fixture_check(s.kept, BLOCK, 2);
	fixture_free(f, s.lent);
	fixture_free(f, s.kept);
	fixture_space_end(f);
	hostile_unplug();
	if (!must_be_lost && s.n_lost)
		fail_msg("%s: %u pages lost%s", what, s.n_lost,
			 s.was_lost ? ", with the device" : "");
	print_message("%s: %u calls refused, %u pages lost\n", what, s.n_errors, s.n_lost);
}

static void nothing_is_wrong(struct svm_fixture *f)
{
	run(f, 0, "no lies", false);
}

struct lie {
	uint32_t lies;
	const char *what;
};

static void each_lie_alone(struct svm_fixture *f)
{
	static const struct lie each[] = {
		{ HOSTILE_FAILS, "calls fail" },
		{ HOSTILE_POINTS_FAIL, "points fail" },
		{ HOSTILE_LATE, "late fences" },
		{ HOSTILE_FULL, "queues full for nothing" },
		{ HOSTILE_VALUES | HOSTILE_LATE, "values from nowhere, and late fences" },
		{ HOSTILE_NEWS, "failures from nowhere" },
		{ HOSTILE_STORM, "events for nothing" },
		{ HOSTILE_FAULTS, "faults of nobody's addresses" },
		{ HOSTILE_MAPS, "chunks cannot be mapped" },
		{ HOSTILE_SAME_CHUNK, "one handle for all chunks" },
	};

	for (unsigned int i = 0; i < sizeof(each) / sizeof(each[0]); i++)
		run(f, each[i].lies, each[i].what, false);
}

static void who_goes_too_far_is_lost(struct svm_fixture *f)
{
	static const struct lie each[] = {
		{ HOSTILE_FULL_FOREVER, "queues full for ever" },
		{ HOSTILE_FULL_FOREVER | HOSTILE_STORM, "full for ever, with events" },
		{ HOSTILE_NEVER, "no fence any more" },
		{ HOSTILE_NEVER | HOSTILE_QUIET, "no fence, no word at the end" },
		{ HOSTILE_DIES, "dies, with memory that cannot be had" },
		{ HOSTILE_TIMELINE, "points of no timeline" },
		{ HOSTILE_MANY_FAULTS, "more faults than there is room for" },
	};

	for (unsigned int i = 0; i < sizeof(each) / sizeof(each[0]); i++)
		run(f, each[i].lies, each[i].what, true);
}

/* Stops its parent again and again, for longer than an operation may take. */
static void stop_again_and_again(pid_t parent)
{
	const struct timespec run = { .tv_nsec = 60000000 };
	const struct timespec stand = { .tv_nsec = 900000000 };

	for (unsigned int i = 0; i < 4; i++) {
		(void)nanosleep(&run, NULL);
		if (getppid() != parent || kill(parent, SIGSTOP) < 0)
			_exit(1);
		(void)nanosleep(&stand, NULL);
		if (kill(parent, SIGCONT) < 0)
			_exit(1);
	}
	_exit(0);
}

/* As by a shell's job control or a debugger, with operations under way: the device had no time to answer. */
static void who_is_stopped_gives_no_device_up(struct svm_fixture *f)
{
	const struct svm_space_options options = { .size = sizeof(options), .op_timeout_ms = 400 };
	struct svm_device *device;
	struct svm_location there;
	pid_t parent = getpid();
	pid_t child;
	char *block;
	int status;

	fixture_watchdog(60);
	hostile_plug();
	fixture_space(f, &options);
	device = fixture_open(f, "hostile:seed=1:lies=4:memory=4");
	there = svm_device_location(device);
	block = fixture_alloc(f, BLOCK, 0);
	fixture_fill(block, BLOCK, 1);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		stop_again_and_again(parent);
	do {
		assert_int_equal(svm_prefetch(f->space, block, BLOCK, there, NULL), 0);
		assert_int_equal(svm_prefetch(f->space, block, BLOCK, HOST, NULL), 0);
	} while (waitpid(child, &status, WNOHANG) == 0);
	assert_int_equal(status, 0);
	fixture_check(block, BLOCK, 1);
	assert_int_equal(svm_device_close(device), 0);
	fixture_free(f, block);
	fixture_space_end(f);
	hostile_unplug();
}

static void all_harmless_lies_together(struct svm_fixture *f)
{
	for (unsigned int i = 0; i < 2; i++)
		run(f,
		    HOSTILE_FAILS | HOSTILE_POINTS_FAIL | HOSTILE_LATE | HOSTILE_FULL |
			    HOSTILE_STORM | HOSTILE_MAPS,
		    "many lies", false);
}

int main(int argc, char **argv)
{
	static const struct svm_fixture_case cases[] = {
		FIXTURE_CASE(nothing_is_wrong, FIXTURE_VARIANTS),
		FIXTURE_CASE(each_lie_alone, FIXTURE_VARIANTS),
		FIXTURE_CASE(who_goes_too_far_is_lost, FIXTURE_ONCE),
		FIXTURE_CASE(all_harmless_lies_together, FIXTURE_VARIANTS),
		FIXTURE_CASE(who_is_stopped_gives_no_device_up, FIXTURE_ONCE),
	};

	return fixture_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
