// SPDX-License-Identifier: Apache-2.0
// Defines TESTS_CAN_FORK where a test may fork and wait: on POSIX, and not under the thread sanitizer, which does not follow.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTS_THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TESTS_THREAD_SANITIZER
#endif

#if __has_include(<sys/wait.h>) && !defined(TESTS_THREAD_SANITIZER)
#define TESTS_CAN_FORK
#include <sys/wait.h>
#include <unistd.h>
#endif
