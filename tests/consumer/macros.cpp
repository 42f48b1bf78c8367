// SPDX-License-Identifier: Apache-2.0
// A user's unit in which other headers came first: windows.h, X11, macOS's AssertMacros.h, sys/sysmacros.h, Qt and what people
// define themselves. Where it matters a macro's use breaks; afterwards they are still there. That it compiles is the test.
#include <cstddef>
#include <vector>

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near nonsense far
#define far nonsense near
#define small char
#define interface struct
#define check(x) nonsense (x
#define verify(x) nonsense (x
#define require(x) nonsense (x
#define ERROR 0
#define DELETE (0x10000L)
#define IN nonsense (
#define OUT nonsense (
#define OPTIONAL nonsense (
#define CONST const
#define VOID void
#define STRICT 1
#define NO_ERROR 0L
#define TRUE 1
#define FALSE 0
#define IGNORE 0
#define OPAQUE 2
#define TRANSPARENT 1
#define ABSOLUTE 1
#define RELATIVE 2
#define major(x) nonsense (x
#define minor(x) nonsense (x
#define makedev(x, y) nonsense (x
#define Bool int
#define Status int
#define None 0L
#define True 1
#define False 0
#define Always 2
#define Success 0
#define Above 0
#define Below 1
#define Complex 0
#define Unsorted 0
#define emit
#define slots
#define signals public
#define foreach nonsense (
#define hyper nonsense (
#define pascal nonsense (
#define cdecl nonsense (
#define debug nonsense (
#define LOG nonsense (
#define CHECK nonsense (
#define B0 nonsense (
#define ECHO nonsense (
#define PI 3
#define GetMessage GetMessageA
#define LoadImage LoadImageA
#define Yield()

#include <mobilediffusion/mobilediffusion.hpp>
#include <mobilediffusion/train/distillation_trainer.hpp>
#include <mobilediffusion/train/lora_trainer.hpp>
#include <mobilediffusion/train/tokenizer.hpp>
#include <mobilediffusion/train/ufogen_trainer.hpp>
#include <mobilediffusion/train/vae_trainer.hpp>

static_assert(min(1, 2) == 1 && max(1, 2) == 2 && (Status)1 == 1);
#define nonsense (1 +
static_assert(check(2))) == 3 && verify(2))) == 3 && require(2))) == 3);
