// A register of floats, whatever the instruction set. Storage is float, bfloat16 or float16;
// arithmetic is float. Everything lies in JAXNORM_ISA, a namespace per instruction set, so that the
// linker can never merge a function compiled for AVX-512 with its portable twin.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

namespace JAXNORM_ISA {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int64_t kLanes = kBytes / 4;
constexpr int kPanel = 4;  // registers side by side in a panel of columns, at least a cache line

typedef float Vec __attribute__((vector_size(kBytes)));
typedef uint32_t Bits __attribute__((vector_size(kBytes)));
typedef int32_t Ints __attribute__((vector_size(kBytes)));
typedef uint16_t Half __attribute__((vector_size(kBytes / 2)));

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

// How many lanes of a register exist: all of them, or the first `count`.
struct All {};
struct First {
  int64_t count;
};

INLINE Vec splat(float value) { return Vec{} + value; }

INLINE Vec keep(Vec value, All) { return value; }
INLINE Vec keep(Vec value, First lanes) {
  const int32_t count = (int32_t)lanes.count;
  Ints index;
  for (int i = 0; i < kLanes; ++i) index[i] = i;
  return (Vec)((Ints)(index < count) & (Ints)value);
}

// `yes` where a > b, else `no`; for a, b < 2^31.
INLINE Bits where_above(Bits a, uint32_t b, Bits yes, Bits no) {
  return (Bits)((Ints)a > (Ints)(Bits{} + b) ? (Ints)yes : (Ints)no);
}

#if defined(__AVX512F__)
INLINE Bits extend(Half h) { return (Bits)_mm512_cvtepu16_epi32((__m256i)h); }
INLINE Half truncate(Bits u) { return (Half)_mm512_cvtepi32_epi16((__m512i)u); }
#elif defined(__AVX2__)
INLINE Bits extend(Half h) { return (Bits)_mm256_cvtepu16_epi32((__m128i)h); }
INLINE Half truncate(Bits u) {  // of numbers below 2^16
  const __m128i low = _mm256_castsi256_si128((__m256i)u);
  return (Half)_mm_packus_epi32(low, _mm256_extracti128_si256((__m256i)u, 1));
}
#else
INLINE Bits extend(Half h) { return __builtin_convertvector(h, Bits); }
INLINE Half truncate(Bits u) { return __builtin_convertvector(u, Half); }
#endif

INLINE Vec widen(Half h, bfloat16) { return (Vec)(extend(h) << 16); }

// To nearest, ties to even. A NaN that arithmetic returns is quiet: its upper half is one too.
INLINE Half narrow(Vec value, bfloat16) {
  const Bits u = (Bits)value, up = ((u >> 16) & 1) + 0x7fff;
#if defined(__AVX512F__)
  return truncate((Bits)(value == value ? (Ints)(u + up) : (Ints)u) >> 16);  // one masked addition
#else
  return truncate((u + (up & (Bits)(value == value))) >> 16);
#endif
}

#if defined(__AVX512F__)
INLINE Vec widen(Half h, float16) { return (Vec)_mm512_cvtph_ps((__m256i)h); }
INLINE Half narrow(Vec value, float16) {
  return (Half)_mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT);
}
#elif defined(__F16C__)
INLINE Vec widen(Half h, float16) { return (Vec)_mm256_cvtph_ps((__m128i)h); }
INLINE Half narrow(Vec value, float16) {
  return (Half)_mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT);
}
#else
// Subnormal halves go through an addition of normal floats: XLA's threads flush subnormal floats.
INLINE Vec widen(Half h, float16) {
  const Bits u = extend(h), a = u & 0x7fff, shifted = (a << 13) + (112u << 23);
  const Bits subnormal = (Bits)((Vec)(shifted + (1u << 23)) - (Vec)(Bits{} + (113u << 23)));
  const Bits normal = where_above(a, 0x7bff, shifted + (112u << 23), shifted);
  return (Vec)(where_above(a, 0x3ff, normal, subnormal) | ((u & 0x8000) << 16));
}
INLINE Half narrow(Vec value, float16) {
  const Bits u = (Bits)value, a = u & 0x7fffffff, half = Bits{} + (126u << 23);
  const Bits shifted = a - (112u << 23);
  const Bits normal = (shifted + 0xfff + ((shifted >> 13) & 1)) >> 13;
  const Bits subnormal = (Bits)((Vec)a + (Vec)half) - half;  // 0.5 has half's smallest ulp
  const Bits special = where_above(a, 0x7f800000, Bits{} + 0x7e00, Bits{} + 0x7c00);
  const Bits finite = where_above(a, 0x387fffff, normal, subnormal);
  return truncate(where_above(a, 0x477fefff, special, finite) | ((u >> 16) & 0x8000));
}
#endif

INLINE Vec load(const float* p, All) {
  Vec value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
INLINE void store(float* p, Vec value, All) { std::memcpy(p, &value, sizeof value); }
#if defined(__AVX512F__)
INLINE Vec load(const float* p, First lanes) {
  return (Vec)_mm512_maskz_loadu_ps((__mmask16)((1u << lanes.count) - 1), p);
}
INLINE void store(float* p, Vec value, First lanes) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << lanes.count) - 1), (__m512)value);
}
#else
INLINE Vec load(const float* p, First lanes) {
  Vec value{};
  std::memcpy(&value, p, lanes.count * sizeof(float));
  return value;
}
INLINE void store(float* p, Vec value, First lanes) {
  std::memcpy(p, &value, lanes.count * sizeof(float));
}
#endif

template <class T>
INLINE Vec load(const T* p, All) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return widen(h, T{});
}
template <class T>
INLINE void store(T* p, Vec value, All) {
  const Half h = narrow(value, T{});
  std::memcpy(p, &h, sizeof h);
}
template <class T>
INLINE Vec load(const T* p, First lanes) {
#if defined(__AVX512F__)
  const Half h = (Half)_mm256_maskz_loadu_epi16((__mmask16)((1u << lanes.count) - 1), p);
#else
  Half h{};
  std::memcpy(&h, p, lanes.count * sizeof(T));
#endif
  return widen(h, T{});
}
template <class T>
INLINE void store(T* p, Vec value, First lanes) {
  const Half h = narrow(value, T{});
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(p, (__mmask16)((1u << lanes.count) - 1), (__m256i)h);
#else
  std::memcpy(p, &h, lanes.count * sizeof(T));
#endif
}

// Past the caches: a store that a cache would only evict again costs a read of the line as well.
// Ordinary stores where the registers or the address do not allow it.
#if defined(__AVX512F__)
INLINE void stream(float* p, Vec value) { _mm512_stream_ps(p, (__m512)value); }
template <class T>
INLINE void stream(T* p, Vec value) {
  _mm256_stream_si256((__m256i*)p, (__m256i)narrow(value, T{}));
}
INLINE void finish_streams() { _mm_sfence(); }
#elif defined(__AVX2__)
INLINE void stream(float* p, Vec value) { _mm256_stream_ps(p, (__m256)value); }
template <class T>
INLINE void stream(T* p, Vec value) {
  _mm_stream_si128((__m128i*)p, (__m128i)narrow(value, T{}));
}
INLINE void finish_streams() { _mm_sfence(); }
#else
template <class T>
INLINE void stream(T* p, Vec value) {
  store(p, value, All{});
}
INLINE void finish_streams() {}
#endif

// Asks for the cache line `ahead` elements after p, which need not be there.
template <class T>
INLINE void prefetch(const T* p, int64_t ahead) {
  __builtin_prefetch((const void*)((uintptr_t)p + (uintptr_t)ahead * sizeof(T)), 0, 2);
}

// Whether register j of a panel is the first in its cache line, were the panel to start there.
template <class T>
INLINE bool starts_line(int64_t j) {
  return j * kLanes * (int64_t)sizeof(T) % 64 == 0;
}

INLINE float value(const float* p) { return *p; }
INLINE float value(const bfloat16* p) {
  const uint32_t wide = (uint32_t)p->bits << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
INLINE float value(const float16* p) {
  Half h{};
  h[0] = p->bits;
  return widen(h, float16{})[0];
}

INLINE float sum(Vec value) {  // by halves
  typedef float Four __attribute__((vector_size(16)));
#if defined(__AVX512F__)
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)value),
                                     _mm512_extractf32x8_ps((__m512)value, 1));
  const Four four =
      (Four)_mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
#elif defined(__AVX2__)
  const Four four = (Four)_mm_add_ps(_mm256_castps256_ps128((__m256)value),
                                     _mm256_extractf128_ps((__m256)value, 1));
#else
  const Four four = value;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}

}  // namespace JAXNORM_ISA
