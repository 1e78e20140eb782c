// SPDX-License-Identifier: MIT
/*
 * emu_launch DRIVER[,DRIVER...][:name=value,...] -- COMMAND [ARGUMENT...]
 *
 * Makes the tree of names that stands in for /dev/dri and parts of /sys, runs the command with
 * the emulator preloaded, and removes the tree again. The exit status is the command's; 128+n
 * after signal n; 2 for bad usage; with check=on, 3 when the emulator had something to report.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu_opt.h"
#include "emu_xe_prof.h"

#define EXIT_USAGE  2
#define EXIT_CHECK  3
#define MAX_DEVICES 8

static char root[256];
static pid_t child;

static void usage(void)
{
	fprintf(stdout,
		"usage: emu_launch DRIVER[,DRIVER...][:name=value,...] -- COMMAND [ARGUMENT...]\n"
		"drivers: xe\noptions (name@N=value for device N alone):\n");
	for (size_t i = 0; i < emu_n_opts; i++) {
		const struct emu_opt *o = &emu_opts[i];

		fprintf(stdout, "  %-12s %s%s%s [%s]\n", o->name, o->help, o->words ? ": " : "",
			o->words ? o->words : "", o->def);
	}
}

static int bad(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int bad(const char *fmt, ...)
{
	va_list ap;

	fputs("emu_launch: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return -1;
}

/* ---- the tree ---- */

static int put_file(const char *path, const void *data, size_t size)
{
	char full[PATH_MAX];
	int fd;

	snprintf(full, sizeof(full), "%s%s", root, path);
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return bad("%s: %s", full, strerror(errno));
	if (write(fd, data, size) != (ssize_t)size) {
		close(fd);
		return bad("%s: not written", full);
	}
	return close(fd);
}

static int put_text(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int put_text(const char *path, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return put_file(path, text, strlen(text));
}

static int put_dir(const char *path)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = full + strlen(root) + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(full, 0777) < 0 && errno != EEXIST)
			return bad("%s: %s", full, strerror(errno));
		*p = '/';
	}
	if (mkdir(full, 0777) < 0 && errno != EEXIST)
		return bad("%s: %s", full, strerror(errno));
	return 0;
}

static int put_link(const char *to, const char *path)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s%s", root, path);
	if (symlink(to, full) < 0)
		return bad("%s: %s", full, strerror(errno));
	return 0;
}

struct pci {
	uint16_t vendor, device;
	uint8_t revision;
	char driver[16];
	char slot[24];
	char dir[64];
};

static int put_pci_files(const struct pci *p)
{
	unsigned char config[64] = { 0 };
	char path[128];
	int r = 0;

	config[0] = (unsigned char)p->vendor;
	config[1] = (unsigned char)(p->vendor >> 8);
	config[2] = (unsigned char)p->device;
	config[3] = (unsigned char)(p->device >> 8);
	config[8] = p->revision;
	config[11] = 3; /* class: display controller */
#define ATTR(name) (snprintf(path, sizeof(path), "%s/" name, p->dir), path)
	r |= put_file(ATTR("config"), config, sizeof(config));
	r |= put_text(ATTR("vendor"), "0x%04x\n", p->vendor);
	r |= put_text(ATTR("device"), "0x%04x\n", p->device);
	r |= put_text(ATTR("subsystem_vendor"), "0x%04x\n", p->vendor);
	r |= put_text(ATTR("subsystem_device"), "0x%04x\n", p->device);
	r |= put_text(ATTR("revision"), "0x%02x\n", p->revision);
	r |= put_text(ATTR("class"), "0x030000\n");
	r |= put_text(ATTR("numa_node"), "-1\n");
	r |= put_text(
		ATTR("uevent"),
		"DRIVER=%s\nPCI_CLASS=30000\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\nPCI_SLOT_NAME=%s\n",
		p->driver, p->vendor, p->device, p->vendor, p->device, p->slot);
	r |= put_link("../../../bus/pci", ATTR("subsystem"));
	snprintf(path, sizeof(path), "../../../bus/pci/drivers/%s", p->driver);
	{
		char link[128];

		snprintf(link, sizeof(link), "%s/driver", p->dir);
		r |= put_link(path, link);
	}
#undef ATTR
	return r;
}

static int put_node(const struct pci *p, const char *name, unsigned minor, const char *by_path)
{
	char path[192], to[192];
	int r = 0;

	snprintf(path, sizeof(path), "/dev/dri/%s", name);
	r |= put_file(path, "", 0);
	snprintf(path, sizeof(path), "/dev/dri/by-path/pci-%s-%s", p->slot, by_path);
	snprintf(to, sizeof(to), "../%s", name);
	r |= put_link(to, path);
	snprintf(path, sizeof(path), "%s/drm/%s", p->dir, name);
	r |= put_dir(path);
	snprintf(path, sizeof(path), "%s/drm/%s/dev", p->dir, name);
	r |= put_text(path, "226:%u\n", minor);
	snprintf(path, sizeof(path), "%s/drm/%s/uevent", p->dir, name);
	r |= put_text(path, "MAJOR=226\nMINOR=%u\nDEVNAME=dri/%s\nDEVTYPE=drm_minor\n", minor,
		      name);
	snprintf(path, sizeof(path), "%s/drm/%s/device", p->dir, name);
	snprintf(to, sizeof(to), "../../../%s", p->slot);
	r |= put_link(to, path);
	snprintf(path, sizeof(path), "%s/drm/%s/subsystem", p->dir, name);
	r |= put_link("../../../../../class/drm", path);
	snprintf(to, sizeof(to), "../../devices/emu/%s/drm/%s", p->slot, name);
	snprintf(path, sizeof(path), "/sys/dev/char/226:%u", minor);
	r |= put_link(to, path);
	snprintf(path, sizeof(path), "/sys/class/drm/%s", name);
	r |= put_link(to, path);
	return r;
}

static int put_device(int index, const char *driver, const char *options)
{
	struct pci p = { 0 };
	char name[192], profile[64], said[sizeof(p.driver)], mode[16];
	char full[512];
	int r = 0;

	emu_opt_value(options, index, "driver", said, sizeof(said));
	if (said[0])
		driver = said;
	emu_opt_value(options, index, "mode", mode, sizeof(mode));
	emu_opt_value(options, index, "profile", profile, sizeof(profile));
	snprintf(p.driver, sizeof(p.driver), "%.15s", driver);
	snprintf(p.slot, sizeof(p.slot), "0000:%02x:00.0", (index + 3) & 0xff);
	snprintf(p.dir, sizeof(p.dir), "/sys/devices/emu/%s", p.slot);
	p.vendor = 0x8086;
	p.device = emu_xe_profile(profile)->devid;
	p.revision = emu_xe_profile(profile)->rev;
	snprintf(name, sizeof(name), "%s/drm", p.dir);
	r |= put_dir(name);
	snprintf(name, sizeof(name), "/sys/bus/pci/drivers/%s", driver);
	r |= put_dir(name);
	r |= put_pci_files(&p);
	snprintf(name, sizeof(name), "../../../devices/emu/%s", p.slot);
	{
		char link[64];

		snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s", p.slot);
		r |= put_link(name, link);
	}
	snprintf(name, sizeof(name), "card%d", index);
	r |= put_node(&p, name, (unsigned)index, "card");
	snprintf(name, sizeof(name), "renderD%d", index + 128);
	r |= put_node(&p, name, (unsigned)index + 128, "render");
	/* For access(2); open(2) asks the emulator. */
	if ((size_t)snprintf(full, sizeof(full), "%s/dev/dri/%s", root, name) >= sizeof(full))
		return bad("TMPDIR is too long");
	if (chmod(full, (mode_t)strtoul(mode, NULL, 8) & 0777) < 0)
		return bad("%s: %s", full, strerror(errno));
	return r;
}

static int put_tree(char *drivers, const char *options)
{
	static const char *const dirs[] = { "/dev/dri/by-path", "/sys/dev/char", "/sys/class/drm",
					    "/sys/bus/pci/devices", "/sys/devices/emu" };
	const char *tmp = getenv("TMPDIR");
	int index = 0, r = 0;

	if ((size_t)snprintf(root, sizeof(root), "%s/emu-XXXXXX", tmp && *tmp ? tmp : "/tmp") >=
	    sizeof(root))
		return bad("TMPDIR is too long");
	if (!mkdtemp(root))
		return bad("no temporary directory: %s", strerror(errno));
	if (chmod(root, 0755) < 0)
		return bad("%s: %s", root, strerror(errno));
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		r |= put_dir(dirs[i]);
	r |= put_text("/sys/class/drm/version", "drm 1.1.0 20060810\n");
	for (char *d = strtok(drivers, ","); d; d = strtok(NULL, ","))
		r |= put_device(index++, d, options);
	return r;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static void remove_tree(void)
{
	if (nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
		bad("%s not removed: %s", root, strerror(errno));
}

/* ---- arguments ---- */

static int count_drivers(const char *list, const char *options)
{
	char copy[256], profile[64];
	int n = 0;

	snprintf(copy, sizeof(copy), "%s", list);
	for (char *d = strtok(copy, ","); d; d = strtok(NULL, ",")) {
		if (strcmp(d, "xe") != 0)
			return bad("unknown driver '%s' (known: xe)", d);
		emu_opt_value(options, n, "profile", profile, sizeof(profile));
		if (!emu_xe_profile(profile))
			return bad("unknown profile '%s'", profile);
		n++;
	}
	if (!n)
		return bad("no driver named");
	if (n > MAX_DEVICES)
		return bad("more than %d devices", MAX_DEVICES);
	return n;
}

/* Everything about the command line is wrong or right before anything is made. */
static int check_arguments(int argc, char **argv, char **ret_options)
{
	char why[128];
	char *colon;
	int n;

	if (argc < 4 || strcmp(argv[2], "--") != 0) {
		bad("usage: DRIVER[,DRIVER...][:name=value,...] -- COMMAND [ARGUMENT...] (--help: options)");
		return -1;
	}
	colon = strchr(argv[1], ':');
	if (colon)
		*colon++ = 0;
	*ret_options = colon ? colon : (char *)"";
	n = count_drivers(argv[1], *ret_options);
	if (n < 0)
		return -1;
	if (!emu_opt_check(*ret_options, n, why, sizeof(why)))
		return bad("%s", why);
	return 0;
}

/* ---- the command ---- */

static void library_path(char *buf, size_t size)
{
	const char *given = getenv("EMU_LIBRARY");
	ssize_t n;
	char *slash;

	if (given) {
		snprintf(buf, size, "%s", given);
		return;
	}
	n = readlink("/proc/self/exe", buf, size - 1);
	if (n < 0)
		n = 0;
	buf[n] = 0;
	slash = strrchr(buf, '/');
	snprintf(slash ? slash + 1 : buf, size - (size_t)(slash ? slash + 1 - buf : 0),
		 "libemu_preload.so");
}

/* The file that execvp() would run. */
static bool find_command(const char *name, char *buf, size_t size)
{
	const char *dirs = getenv("PATH");
	size_t n;

	if (strchr(name, '/'))
		return (size_t)snprintf(buf, size, "%s", name) < size;
	for (; dirs && *dirs; dirs += n + (dirs[n] == ':')) {
		n = strcspn(dirs, ":");
		if ((size_t)snprintf(buf, size, "%.*s/%s", (int)n, dirs, name) < size &&
		    access(buf, X_OK) == 0)
			return true;
	}
	return false;
}

/* A sanitizer's shared library wants to come before ours: its name, when the program needs it. */
static void sanitizer_of(const char *command, char *ret_name, size_t size)
{
	static const char *const names[] = { "libasan.so.", "libtsan.so." };
	char path[PATH_MAX];
	struct stat st;
	char *file, *hit;
	int fd;

	*ret_name = 0;
	if (!find_command(command, path, sizeof(path)))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size) {
		file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		for (size_t i = 0; file != MAP_FAILED && i < sizeof(names) / sizeof(names[0]);
		     i++) {
			hit = memmem(file, (size_t)st.st_size, names[i], strlen(names[i]));
			if (hit && !*ret_name)
				snprintf(ret_name, size, "%.*s", 13, hit);
		}
		if (file != MAP_FAILED)
			munmap(file, (size_t)st.st_size);
	}
	close(fd);
}

static int set_environment(const char *drivers, const char *options, const char *command)
{
	const char *others = getenv("LD_PRELOAD");
	char lib[PATH_MAX], all[3 * PATH_MAX], report[PATH_MAX], first[32];

	sanitizer_of(command, first, sizeof(first));
	library_path(lib, sizeof(lib));
	if (access(lib, R_OK) < 0)
		return bad("%s: %s", lib, strerror(errno));
	snprintf(all, sizeof(all), "%s%s%s%s%s", first, first[0] ? ":" : "", lib, others ? ":" : "",
		 others ? others : "");
	snprintf(report, sizeof(report), "%s/report", root);
	if (setenv("LD_PRELOAD", all, 1) || setenv("EMU_ROOT", root, 1) ||
	    setenv("EMU_DEVICES", drivers, 1) || setenv("EMU_OPTIONS", options, 1) ||
	    setenv("EMU_REPORT", report, 1))
		return bad("environment: %s", strerror(errno));
	return 0;
}

static void forward(int sig)
{
	if (child > 0)
		kill(child, sig);
}

static int run(char **argv)
{
	int status;

	child = fork();
	if (child < 0)
		return bad("fork: %s", strerror(errno));
	if (child == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "emu_launch: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	/* The tree is removed after the command, however it ends. */
	signal(SIGINT, forward);
	signal(SIGTERM, forward);
	signal(SIGHUP, forward);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return bad("wait: %s", strerror(errno));
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* True when a process of the command had strict reports or left objects open. */
static bool reported(void)
{
	unsigned long long files, strict, leaked;
	char path[PATH_MAX];
	bool any = false;
	int pid;
	FILE *f;

	snprintf(path, sizeof(path), "%s/report", root);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (fscanf(f, "pid %d files %llu strict %llu leaked %llu\n", &pid, &files, &strict,
		      &leaked) == 4)
		any |= strict || leaked;
	fclose(f);
	return any;
}

int main(int argc, char **argv)
{
	char drivers[256];
	char *options;
	int r;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		usage();
		return 0;
	}
	if (check_arguments(argc, argv, &options) < 0)
		return EXIT_USAGE;
	snprintf(drivers, sizeof(drivers), "%s", argv[1]);
	r = put_tree(drivers, options);
	if (r == 0)
		r = set_environment(argv[1], options, argv[3]);
	r = r ? EXIT_USAGE : run(argv + 3);
	if (r == 0 && emu_opt_bool(options, -1, "check") && reported()) {
		bad("strict reports or objects left open (check=on)");
		r = EXIT_CHECK;
	}
	remove_tree();
	return r < 0 ? EXIT_USAGE : r;
}
