// SPDX-License-Identifier: Apache-2.0
// Aligned storage, and the stack of activations that a forward pass takes its locals from.
#pragma once

#include "begin.hpp"

#include <cstddef>
#include <cstring>
#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif
#include <memory>
#include <new>
#include <span>
#include <string>

#include "error.hpp"
#include "param.hpp"

namespace mobilediffusion::inline MOBILEDIFFUSION_ABI {

// Memory of a user's own for weights, activations and kernel scratch, instead of the program's free store. (Not
// std::pmr::memory_resource: standard libraries in use, such as those of Android's NDK 25, have none.) It outlives all that
// takes from it, and is asked by the threads that make and end models and sessions.
class MemoryResource {
 public:
  virtual ~MemoryResource() = default;
  // alignment: a power of two. Null, or an exception: there is not so much.
  virtual void* allocate(std::size_t bytes, std::size_t alignment) = 0;
  // Of allocate, with what it was asked for.
  virtual void release(void* memory, std::size_t bytes, std::size_t alignment) noexcept = 0;
};

// Zero-initialised floats on a 64-byte boundary. Large ones ask the system for huge pages: a product that reads hundreds of
// megabytes of weights otherwise waits for translations of addresses.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // from: null means the free store.
  explicit AlignedBuffer(std::size_t floats, MemoryResource* from = nullptr) : data_(allocate(floats, from)) {
    std::memset(data_.get(), 0, floats * sizeof(float));
  }
  float* data() const { return data_.get(); }
  std::size_t size() const { return data_ ? data_.get_deleter().floats : 0; }  // 0 after it was moved from
  std::size_t bytes() const { return size() * sizeof(float); }
  std::span<float> span() const { return {data_.get(), size()}; }
  void zero() const {
    if (size() != 0) std::memset(data_.get(), 0, bytes());
  }

 private:
  struct Free {
    std::size_t alignment, floats;  // no initializers here: g++ 12 would not let the class be made without arguments
    MemoryResource* from;
    std::size_t bytes() const { return floats * sizeof(float) + 64; }
    void operator()(float* p) const {
      if (from != nullptr) from->release(p, bytes(), alignment);
      else ::operator delete (p, std::align_val_t{alignment});
    }
  };
  static std::unique_ptr<float, Free> allocate(std::size_t floats, MemoryResource* from) {
    constexpr std::size_t huge_page = std::size_t{2} << 20;
    if (from != nullptr) {
      const Free free{64, floats, from};
      void* const own = from->allocate(free.bytes(), free.alignment);
      if (own == nullptr) throw std::bad_alloc();
      return {static_cast<float*>(own), free};
    }
    const std::size_t bytes = floats * sizeof(float) + 64;
    const Free free{bytes >= 2 * huge_page ? huge_page : 64, floats, nullptr};
    void* const p = ::operator new (bytes, std::align_val_t{free.alignment});
#ifdef MADV_HUGEPAGE
    if (bytes >= 2 * huge_page) static_cast<void>(::madvise(p, bytes, MADV_HUGEPAGE));  // advice: it need not be taken
#endif
    return {static_cast<float*>(p), free};
  }

  std::unique_ptr<float, Free> data_{nullptr, Free{64, 0, nullptr}};
};

// A bump allocator over caller-owned memory. Inference releases each block's locals when the block ends (Scope), so the
// peak is what plan/ computes at compile time. Training never releases: the same pointers are what backward reads.
class Stack {
 public:
  Stack() = default;
  explicit Stack(std::span<float> memory) : memory_(memory) {}
  explicit Stack(const AlignedBuffer& buffer) : memory_(buffer.span()) {}

  // 64-byte aligned, contents undefined.
  float* take(std::size_t floats) {
    const std::size_t size = aligned(floats);
    if (size > memory_.size() - used_)
      throw Error("activation stack: expected room for " + std::to_string(used_ + size) + " floats, found " +
                  std::to_string(memory_.size()));
    float* p = memory_.data() + used_;
    used_ += size;
    if (used_ > peak_) peak_ = used_;
    return p;
  }
  float* take_zeroed(std::size_t floats) {
    float* p = take(floats);
    std::memset(p, 0, floats * sizeof(float));
    return p;
  }
  std::size_t used() const { return used_; }
  std::size_t peak() const { return peak_; }  // floats, the most ever taken at once
  std::size_t capacity() const { return memory_.size(); }
  void release(std::size_t mark) { used_ = mark; }  // back to an earlier used()
  bool keeps() const { return keep_; }
  void keep(bool on) { keep_ = on; }  // training: scopes do not release

 private:
  std::span<float> memory_;
  std::size_t used_ = 0, peak_ = 0;
  bool keep_ = false;
};

// Releases what was taken since its construction, unless the stack keeps everything for a backward pass.
class Scope {
 public:
  explicit Scope(Stack& stack) : stack_(stack), mark_(stack.used()) {}
  ~Scope() {
    if (!stack_.keeps()) stack_.release(mark_);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Stack& stack_;
  std::size_t mark_;
};

}  // namespace mobilediffusion::inline MOBILEDIFFUSION_ABI

#include "end.hpp"
