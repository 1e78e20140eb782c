/* SPDX-License-Identifier: MIT */
#include "hints.h"

#include "bits.h"
#include <errno.h>

#define KIND(k) (1u << (k))

const struct svm_hints svm_hints_none = { .granularity_shift = SVM_BLOCK_SHIFT };

static int check_location(const struct svm_location *location)
{
	switch (location->kind) {
	case SVM_LOCATION_NONE:
	case SVM_LOCATION_HOST:
	case SVM_LOCATION_HOST_NUMA_CURRENT:
		return location->id == 0 ? 0 : -EINVAL;
	case SVM_LOCATION_HOST_NUMA:
	case SVM_LOCATION_DEVICE:
		return 0;
	default:
		return -EINVAL;
	}
}

int svm_hints_check(const struct svm_advice *advice)
{
	bool names_device = false;
	bool has_value = false;

	switch (advice->kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		return advice->device == 0 && advice->value == 0 ? check_location(&advice->location)
								 : -EINVAL;
	case SVM_ADVICE_ACCESSED_BY:
	case SVM_ADVICE_ACCESS_IN_PLACE:
	case SVM_ADVICE_NO_ACCESS:
		names_device = true;
		break;
	case SVM_ADVICE_READ_MOSTLY:
		has_value = advice->value <= 1;
		break;
	case SVM_ADVICE_ATOMICS:
		has_value = advice->value <= SVM_ATOMICS_SYSTEM;
		break;
	case SVM_ADVICE_GRANULARITY:
		has_value = advice->value >= SVM_PAGE_SIZE && advice->value <= SVM_BLOCK_SIZE &&
			    (advice->value & (advice->value - 1u)) == 0;
		break;
	case SVM_ADVICE_MIGRATION:
		has_value = advice->value <= SVM_MIGRATE_NEVER;
		break;
	default:
		return -EINVAL;
	}
	if (advice->location.kind || advice->location.id)
		return -EINVAL;
	if (names_device)
		return advice->value ? -EINVAL : 0;
	return has_value && advice->device == 0 ? 0 : -EINVAL;
}

void svm_hints_set(struct svm_hints *hints, const struct svm_advice *advice)
{
	uint16_t device = (uint16_t)(1u << (advice->device & 15u));

	switch (advice->kind) {
	case SVM_ADVICE_PREFERRED_LOCATION:
		hints->preferred = advice->location;
		break;
	case SVM_ADVICE_ACCESSED_BY:
		hints->accessed_by |= device;
		hints->in_place &= (uint16_t)~device;
		hints->no_access &= (uint16_t)~device;
		break;
	case SVM_ADVICE_ACCESS_IN_PLACE:
		hints->in_place |= device;
		hints->accessed_by &= (uint16_t)~device;
		hints->no_access &= (uint16_t)~device;
		break;
	case SVM_ADVICE_NO_ACCESS:
		hints->no_access |= device;
		hints->accessed_by &= (uint16_t)~device;
		hints->in_place &= (uint16_t)~device;
		break;
	case SVM_ADVICE_READ_MOSTLY:
		hints->read_mostly = (uint8_t)advice->value;
		break;
	case SVM_ADVICE_ATOMICS:
		hints->atomics = (uint8_t)advice->value;
		break;
	case SVM_ADVICE_GRANULARITY:
		hints->granularity_shift = (uint8_t)__builtin_ctzll(advice->value);
		break;
	case SVM_ADVICE_MIGRATION:
		hints->migration = (uint8_t)advice->value;
		break;
	default:
		break;
	}
}

void svm_hints_unset(struct svm_hints *hints, uint32_t kinds)
{
	const struct svm_hints *none = &svm_hints_none;

	if (kinds & KIND(SVM_ADVICE_PREFERRED_LOCATION))
		hints->preferred = none->preferred;
	if (kinds & KIND(SVM_ADVICE_ACCESSED_BY))
		hints->accessed_by = 0;
	if (kinds & KIND(SVM_ADVICE_ACCESS_IN_PLACE))
		hints->in_place = 0;
	if (kinds & KIND(SVM_ADVICE_NO_ACCESS))
		hints->no_access = 0;
	if (kinds & KIND(SVM_ADVICE_READ_MOSTLY))
		hints->read_mostly = none->read_mostly;
	if (kinds & KIND(SVM_ADVICE_ATOMICS))
		hints->atomics = none->atomics;
	if (kinds & KIND(SVM_ADVICE_GRANULARITY))
		hints->granularity_shift = none->granularity_shift;
	if (kinds & KIND(SVM_ADVICE_MIGRATION))
		hints->migration = none->migration;
}

bool svm_hints_forget_device(struct svm_hints *hints, uint32_t id)
{
	struct svm_hints old = *hints;
	uint16_t keep = (uint16_t) ~(1u << id);

	if (hints->preferred.kind == SVM_LOCATION_DEVICE && hints->preferred.id == id)
		hints->preferred = svm_hints_none.preferred;
	hints->accessed_by &= keep;
	hints->in_place &= keep;
	hints->no_access &= keep;
	return !svm_hints_equal(&old, hints);
}

static bool location_equal(const struct svm_location *a, const struct svm_location *b)
{
	return a->kind == b->kind && a->id == b->id;
}

bool svm_hints_equal(const struct svm_hints *a, const struct svm_hints *b)
{
	return location_equal(&a->preferred, &b->preferred) && a->accessed_by == b->accessed_by &&
	       a->in_place == b->in_place && a->no_access == b->no_access &&
	       a->read_mostly == b->read_mostly && a->atomics == b->atomics &&
	       a->migration == b->migration && a->granularity_shift == b->granularity_shift;
}

void svm_hints_summary(struct svm_advice_info *info, const struct svm_hints *hints)
{
	*info = (struct svm_advice_info){
		.size = sizeof(*info),
		.read_mostly_all = hints->read_mostly,
		.read_mostly_none = !hints->read_mostly,
		.preferred = hints->preferred,
		.accessed_by = hints->accessed_by,
		.access_in_place = hints->in_place,
		.no_access = hints->no_access,
		.atomics = hints->atomics,
		.migration = hints->migration,
		.granularity = 1u << hints->granularity_shift,
		.n_ranges = 1,
	};
}

void svm_hints_summary_add(struct svm_advice_info *info, const struct svm_hints *hints)
{
	uint32_t granularity = 1u << hints->granularity_shift;
	uint32_t read_mostly = hints->read_mostly ? 1u : 0u;

	if (!location_equal(&info->preferred, &hints->preferred))
		info->mixed |= KIND(SVM_ADVICE_PREFERRED_LOCATION);
	if (info->accessed_by != hints->accessed_by)
		info->mixed |= KIND(SVM_ADVICE_ACCESSED_BY);
	if (info->access_in_place != hints->in_place)
		info->mixed |= KIND(SVM_ADVICE_ACCESS_IN_PLACE);
	if (info->no_access != hints->no_access)
		info->mixed |= KIND(SVM_ADVICE_NO_ACCESS);
	if (info->read_mostly_all != read_mostly || info->read_mostly_none == read_mostly)
		info->mixed |= KIND(SVM_ADVICE_READ_MOSTLY);
	if (info->atomics != hints->atomics)
		info->mixed |= KIND(SVM_ADVICE_ATOMICS);
	if (info->migration != hints->migration)
		info->mixed |= KIND(SVM_ADVICE_MIGRATION);
	if (info->granularity != granularity)
		info->mixed |= KIND(SVM_ADVICE_GRANULARITY);
	/* Masks say "on the entire span". */
	info->accessed_by &= hints->accessed_by;
	info->access_in_place &= hints->in_place;
	info->no_access &= hints->no_access;
	info->read_mostly_all &= read_mostly;
	info->read_mostly_none &= !read_mostly;
	info->granularity = granularity < info->granularity ? granularity : info->granularity;
	info->n_ranges++;
}
