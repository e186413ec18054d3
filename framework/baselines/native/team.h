// Threads that help with short jobs, many a millisecond. The caller waits for the parts that others have begun, never
// for others to come: where other processes hold the cores it does all parts itself, and no barrier waits for a thread
// that is not running. A forked process has no helpers, and needs none.

#pragma once

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
inline void rest() { _mm_pause(); }
#else
inline void rest() { std::this_thread::yield(); }
#endif

class Team {
 public:
  // One for the process, never destroyed, since its threads never end.
  static Team& of_all() {
    static Team* team = new Team(omp_get_max_threads() - 1);
    return *team;
  }

  // part(0), ..., part(count - 1), each once, in any order and on any thread; fewer than 65,536; one job at a time.
  void run(uint32_t count, const std::function<void(uint32_t)>& part) {
    part_ = &part;
    done_.store(0, std::memory_order_relaxed);
    uint64_t job = (now_.load(std::memory_order_relaxed) >> 32) + 1;
    now_.store(job << 32 | (uint64_t)count << 16);
    if (count > 1 && asleep_.load() > 0) {
      std::lock_guard<std::mutex> held(door_);
      bell_.notify_all();
    }
    while (take()) {
    }
    for (int turn = 0; done_.load(std::memory_order_acquire) < count; turn++) turn < kSpins ? rest() : (void)sched_yield();
  }

 private:
  static constexpr int kSpins = 1000, kPatience = 4000;  // some 40 ns each

  explicit Team(int helpers) {
    for (int i = 0; i < helpers; i++) std::thread([this] { help(); }).detach();
  }

  // Does the next part of the job, if there is one. Once it is taken the job cannot end, so `part_` is its own.
  bool take() {
    uint64_t now = now_.load();
    do {
      if (!open(now)) return false;
    } while (!now_.compare_exchange_weak(now, now + 1));
    (*part_)(now & 0xffff);
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }

  static bool open(uint64_t now) { return (now & 0xffff) < (now >> 16 & 0xffff); }

  void help() {
    for (int turn = 0;; turn++) {
      uint64_t job = now_.load() >> 32;
      if (take()) turn = 0;
      if (turn < kPatience) {
        rest();
        continue;
      }
      std::unique_lock<std::mutex> held(door_);
      asleep_++;
      bell_.wait(held, [&] { return now_.load() >> 32 != job; });
      asleep_--;
      turn = 0;  // even if that job is done by now, the next is near
    }
  }

  std::atomic<uint64_t> now_{0};  // number of the job, of its parts, of the next part
  std::atomic<uint32_t> done_{0}, asleep_{0};
  const std::function<void(uint32_t)>* part_ = nullptr;
  std::mutex door_;
  std::condition_variable bell_;
};
