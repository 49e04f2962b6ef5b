/* What the kernels for bfloat16 training share; called from nn/native.py.
 *
 * Numbers: inputs and results are bfloat16 where the model's are; sums and functions are float32
 *          inside, so results are at least as exact as those of the operations they replace.
 * Threads: OpenMP with static schedules. No sum is split between threads, so results do not
 *          depend on their number.
 * Needs:   x86 with AVX-512 BF16; widths that native.py checks. Nothing allocated outlives a call.
 */

#ifndef LIGHTUNE_KERNELS_H
#define LIGHTUNE_KERNELS_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;
#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load(const bf16 *p) {
    __m256i half = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
INLINE __m256i rounded(__m512 v) { return (__m256i)_mm512_cvtneps_pbh(v); }
INLINE void store(bf16 *p, __m512 v) { _mm256_storeu_si256((__m256i *)p, rounded(v)); }
INLINE __m512bh pairs(const void *p) { return (__m512bh)_mm512_loadu_si512(p); }
INLINE __m512bh pair(const void *p) { /* one pair of bfloat16 in every place */
    int32_t value;
    memcpy(&value, p, 4);
    return (__m512bh)_mm512_set1_epi32(value);
}
INLINE bf16 narrow(float v) {
    return (bf16)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(v)), 0);
}

INLINE void *scratch(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

/* e^x: 2^n times a polynomial of the rest (Cephes expf), relative error below 2e-7. */
INLINE __m512 exp_(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), x); /* in this order NaN stays NaN */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    x = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    x = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), x);
    __m512 y = _mm512_set1_ps(1.9875691500e-4f);
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.3981999507e-3f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(8.3334519073e-3f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(4.1665795894e-2f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.6666665459e-1f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(5.0000001201e-1f));
    y = _mm512_fmadd_ps(y, _mm512_mul_ps(x, x), _mm512_add_ps(x, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(y, n);
}

#endif
