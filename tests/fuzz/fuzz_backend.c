/* SPDX-License-Identifier: MIT */
/*
 * What a backend may be told and what it may answer: device names with any options, and a backend that breaks its
 * contract (hostile_backend.h) in the ways that the input chooses, under calls of the public API.
 */
#include "fuzz_calls.h"
#include "hostile_backend.h"

#include <stdio.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With these the device never answers or its memory is worth nothing: sequences would only wait, or touch it. */
#define NOT_HERE (HOSTILE_FULL_FOREVER | HOSTILE_NEVER | HOSTILE_SAME_CHUNK)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	fuzz_start();
	hostile_plug();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const prefixes[] = { "soft:", "xe:", "hostile:", "" };
	struct fuzz_input input = { data, size };
	char hostile[96];
	char given[64];
	const char *names[] = { hostile, hostile, hostile, given, "soft:memory=4M" };
	const struct fuzz_devices devices = { names, sizeof(names) / sizeof(names[0]) };
	size_t n;

	(void)snprintf(hostile, sizeof(hostile), "hostile:seed=%u:lies=%u:memory=%u",
		       (unsigned int)fuzz_take(&input, 2),
		       (unsigned int)fuzz_take(&input, 2) & ~NOT_HERE,
		       1u + (unsigned int)fuzz_take(&input, 1) % 4u);
	/* A name out of the input itself. */
	n = (size_t)snprintf(given, sizeof(given), "%s", prefixes[fuzz_take(&input, 1) % 4u]);
	while (n < sizeof(given) - 1u && !fuzz_ended(&input)) {
		char c = (char)fuzz_take(&input, 1);

		if (c == '\n' || c == '\0')
			break;
		given[n++] = c;
	}
	given[n] = '\0';
	fuzz_calls(&input, &devices);
	return 0;
}
