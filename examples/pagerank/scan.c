// SPDX-License-Identifier: MIT
#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "scan.h"
#include "util.h"

/* A scan under way: room left in its arrays, and the files in the order that look-ups want. */
struct scanner {
	struct scan scan;
	const char *root;
	size_t paths_room;
	size_t edges_room;
	size_t n_read;	   /* files that could be read */
	uint32_t *by_name; /* file numbers by base name, then by length and spelling of the path */
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Order of scanner.by_name, for qsort_r(). */
static int compare_names(const void *a, const void *b, void *paths)
{
	const char *path_a = ((char **)paths)[*(const uint32_t *)a];
	const char *path_b = ((char **)paths)[*(const uint32_t *)b];
	size_t length_a = strlen(path_a), length_b = strlen(path_b);
	int order = strcmp(base_name(path_a), base_name(path_b));

	if (order)
		return order;
	if (length_a != length_b)
		return length_a < length_b ? -1 : 1;
	return strcmp(path_a, path_b);
}

static int compare_numbers(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Make room for one more entry of entry_size bytes. Returns 0 or -ENOMEM. */
static int grow(void **array, size_t *room, size_t n, size_t entry_size)
{
	size_t new_room = *room ? *room * 2 : 256;
	void *new_array;

	if (n < *room)
		return 0;
	new_array = reallocarray(*array, new_room, entry_size);
	if (!new_array)
		return -ENOMEM;
	*array = new_array;
	*room = new_room;
	return 0;
}

/* ---- The tree -------------------------------------------------------------------------------- */

static int is_header(const FTSENT *entry)
{
	size_t length = entry->fts_namelen;
	struct stat target;

	if (length < 3 || strcmp(entry->fts_name + length - 2, ".h") != 0)
		return 0;
	if (entry->fts_info == FTS_SL) /* a link to a file counts, as it does for a compiler */
		return stat(entry->fts_path, &target) == 0 && S_ISREG(target.st_mode);
	return entry->fts_info == FTS_F;
}

static int add_path(struct scanner *s, const char *path)
{
	struct scan *scan = &s->scan;
	int ret = grow((void **)&scan->paths, &s->paths_room, scan->n_files, sizeof(*scan->paths));

	if (ret)
		return ret;
	scan->paths[scan->n_files] = strdup(path);
	if (!scan->paths[scan->n_files])
		return -ENOMEM;
	scan->n_files++;
	return 0;
}

static int find_files(struct scanner *s)
{
	char *roots[] = { (char *)s->root, NULL };
	size_t root_length = strlen(s->root);
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
	FTSENT *entry;
	int ret = 0;

	if (!walk)
		return -errno;
	while (!ret && (errno = 0, entry = fts_read(walk)) != NULL) {
		const char *path = entry->fts_path + root_length;

		if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR ||
		    entry->fts_info == FTS_NS)
			s->scan.n_unreadable++;
		else if (entry->fts_level > 0 && is_header(entry))
			ret = add_path(s, path + strspn(path, "/"));
	}
	if (!ret && errno)
		ret = -errno;
	fts_close(walk);
	return ret;
}

static int sort_files(struct scanner *s)
{
	struct scan *scan = &s->scan;

	qsort(scan->paths, scan->n_files, sizeof(*scan->paths), compare_paths);
	s->by_name = calloc(scan->n_files, sizeof(*s->by_name));
	scan->first_edge = calloc(scan->n_files + 1, sizeof(*scan->first_edge));
	if (!s->by_name || !scan->first_edge)
		return -ENOMEM;
	for (size_t i = 0; i < scan->n_files; i++)
		s->by_name[i] = (uint32_t)i;
	qsort_r(s->by_name, scan->n_files, sizeof(*s->by_name), compare_names, scan->paths);
	return 0;
}

/* ---- From the text of an include to a file --------------------------------------------------- */

/*
 * Write dir/name (dir has dir_length bytes, 0 for none) without its "." and ".." to ret_path, which
 * has PATH_MAX bytes. Returns 0 when it is too long or leads out of the tree.
 */
static int join_path(const char *dir, size_t dir_length, const char *name, char *ret_path)
{
	char joined[PATH_MAX];
	size_t length = 0;
	char *rest, *part;
	int n = snprintf(joined, sizeof(joined), "%.*s/%s", (int)dir_length, dir, name);

	if (n < 0 || (size_t)n >= sizeof(joined))
		return 0;
	for (part = strtok_r(joined, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			if (length == 0)
				return 0;
			while (length > 0 && ret_path[--length] != '/')
				;
			continue;
		}
		if (length > 0)
			ret_path[length++] = '/';
		memcpy(ret_path + length, part, strlen(part));
		length += strlen(part);
	}
	ret_path[length] = '\0';
	return length > 0;
}

/* The file with exactly this path, or -1. */
static int64_t find_path(const struct scanner *s, const char *path)
{
	char **found =
		bsearch(&path, s->scan.paths, s->scan.n_files, sizeof(char *), compare_paths);

	return found ? found - s->scan.paths : -1;
}

/* The first in by_name whose base name is not before name. */
static size_t lower_bound(const struct scanner *s, const char *name)
{
	size_t low = 0, high = s->scan.n_files;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(base_name(s->scan.paths[s->by_name[middle]]), name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The shortest path that ends in /suffix, or -1. */
static int64_t find_suffix(const struct scanner *s, const char *suffix)
{
	const char *name = base_name(suffix);
	size_t length = strlen(suffix);

	for (size_t i = lower_bound(s, name); i < s->scan.n_files; i++) {
		const char *path = s->scan.paths[s->by_name[i]];
		size_t path_length = strlen(path);

		if (strcmp(base_name(path), name) != 0)
			break;
		if (path_length > length && path[path_length - length - 1] == '/' &&
		    strcmp(path + path_length - length, suffix) == 0)
			return s->by_name[i];
	}
	return -1;
}

/* name without the last directory of the root, if that is how it begins: the compiler's root is above. */
static const char *below_root(const struct scanner *s, const char *name)
{
	const char *end = s->root + strlen(s->root), *last;
	size_t length;

	while (end > s->root && end[-1] == '/')
		end--;
	for (last = end; last > s->root && last[-1] != '/'; last--)
		;
	length = (size_t)(end - last);
	if (length == 0 || strncmp(name, last, length) != 0 || name[length] != '/')
		return NULL;
	return name + length + 1;
}

/* The file that "name" or <name> in the given file stands for, or -1. */
static int64_t resolve(const struct scanner *s, size_t file, const char *name, int quoted)
{
	const char *path = s->scan.paths[file];
	char target[PATH_MAX];
	int64_t found = -1;

	if (quoted && join_path(path, (size_t)(base_name(path) - path), name, target))
		found = find_path(s, target);
	if (found < 0 && join_path("", 0, name, target)) {
		found = find_path(s, target);
		if (found < 0 && below_root(s, target))
			found = find_path(s, below_root(s, target));
		if (found < 0)
			found = find_suffix(s, target);
	}
	return found;
}

/* ---- The files ------------------------------------------------------------------------------- */

/*
 * If the line is an include, cut the name out of it and return it. An include in a comment counts
 * when it begins its line, and one that a macro spells is not seen: good enough for a ranking.
 */
static char *parse_include(char *line, int *ret_quoted)
{
	char *at = line + strspn(line, " \t");
	char *end;

	if (*at++ != '#')
		return NULL;
	at += strspn(at, " \t");
	if (strncmp(at, "include", 7) != 0)
		return NULL;
	at += 7;
	at += strspn(at, " \t");
	if (*at != '"' && *at != '<')
		return NULL;
	end = strchr(at + 1, *at == '"' ? '"' : '>');
	if (!end || end == at + 1)
		return NULL;
	*end = '\0';
	*ret_quoted = *at == '"';
	return at + 1;
}

static int add_edge(struct scanner *s, size_t file, int64_t target)
{
	struct scan *scan = &s->scan;
	int ret;

	if (target < 0) {
		scan->n_unresolved++;
		return 0;
	}
	if ((size_t)target == file)
		return 0;
	ret = grow((void **)&scan->edges, &s->edges_room, scan->n_edges, sizeof(*scan->edges));
	if (!ret)
		scan->edges[scan->n_edges++] = (uint32_t)target;
	return ret;
}

/* Sort the edges from first on, and keep one of each. */
static void unique_edges(struct scan *scan, size_t first)
{
	size_t n = first;

	if (scan->n_edges == first)
		return;
	qsort(scan->edges + first, scan->n_edges - first, sizeof(*scan->edges), compare_numbers);
	for (size_t i = first; i < scan->n_edges; i++) {
		if (i == first || scan->edges[i] != scan->edges[i - 1])
			scan->edges[n++] = scan->edges[i];
	}
	scan->n_edges = n;
}

static FILE *open_header(struct scanner *s, size_t file)
{
	char *path;
	FILE *header;

	if (asprintf(&path, "%s/%s", s->root, s->scan.paths[file]) < 0)
		return NULL;
	header = fopen(path, "re");
	free(path);
	return header;
}

static int read_file(struct scanner *s, size_t file, char **line, size_t *line_room)
{
	FILE *header = open_header(s, file);
	size_t first = s->scan.n_edges;
	int ret = 0, quoted;

	if (!header) {
		s->scan.n_unreadable++;
		return errno == ENOMEM || errno == EMFILE ? -errno : 0;
	}
	while (!ret && getline(line, line_room, header) >= 0) {
		char *name = parse_include(*line, &quoted);

		if (name)
			ret = add_edge(s, file, resolve(s, file, name, quoted));
	}
	if (ferror(header))
		s->scan.n_unreadable++;
	else
		s->n_read++;
	fclose(header);
	unique_edges(&s->scan, first);
	return ret;
}

static int read_files(struct scanner *s, progress_fn *progress, void *progress_data)
{
	struct scan *scan = &s->scan;
	char *line = NULL;
	size_t line_room = 0;
	int ret = 0;

	for (size_t i = 0; i < scan->n_files && !ret; i++) {
		scan->first_edge[i] = (uint32_t)scan->n_edges;
		ret = read_file(s, i, &line, &line_room);
		if (!ret && scan->n_edges > UINT32_MAX)
			ret = -E2BIG;
		progress(progress_data, "", (unsigned int)i + 1, (unsigned int)scan->n_files);
	}
	scan->first_edge[scan->n_files] = (uint32_t)scan->n_edges;
	free(line);
	return ret;
}

int scan_tree(const char *root, progress_fn *progress, void *progress_data, struct scan *ret_scan)
{
	struct scanner s = { .root = root };
	struct stat info;
	int ret;

	if (stat(root, &info) != 0)
		return complain(-errno, "%s", root);
	if (!S_ISDIR(info.st_mode))
		return complain(-ENOTDIR, "%s", root);

	ret = find_files(&s);
	if (ret) {
		complain(ret, "%s", root);
		goto err_free;
	}
	if (s.scan.n_files == 0 || s.scan.n_files > UINT32_MAX)
		goto err_none;
	ret = sort_files(&s);
	if (!ret)
		ret = read_files(&s, progress, progress_data);
	if (ret) {
		complain(ret, "%s", root);
		goto err_free;
	}
	if (s.n_read == 0)
		goto err_none;
	free(s.by_name);
	*ret_scan = s.scan;
	return 0;

err_none:
	ret = -ENODATA;
	complain(0, "%s: no readable header (*.h) in it", root);
err_free:
	free(s.by_name);
	scan_free(&s.scan);
	return ret;
}

void scan_free(struct scan *scan)
{
	for (size_t i = 0; i < scan->n_files; i++)
		free(scan->paths[i]);
	free(scan->paths);
	free(scan->first_edge);
	free(scan->edges);
	*scan = (struct scan){ 0 };
}
