/* SPDX-License-Identifier: Apache-2.0 */
/* The header is what this unit includes, by a flag; what a header forgets to include itself is missed here. */
typedef int empty;
