/* Attention in bfloat16, forward and backward: P = softmax(scale Q K^T + mask), O = (P * drop) V.
 *
 * Memory:  no score matrix is kept: the backward pass forms P again from the row's largest score
 *          and sum, as in FlashAttention-2 (Dao 2023, arXiv:2307.08691, algorithm 2).
 * Masks:   what is masked at the end of a row (padding, the future) is not computed at all.
 * Threads: one (batch, key head) pair at a time each; groups of query heads that share a key head
 *          stay together, so that no sum is split.
 */

#include "kernels.h"

#define TILE 4    /* query rows computed at once */
#define BLOCK 64  /* query rows whose P is held at once in the backward pass */
#define MASKED -1e30f

typedef struct {
    const bf16 *start;
    long batch, head, row; /* strides in elements; the last dimension is contiguous */
} View;

typedef struct {
    View q, k, v, grad;
    const void *mask; /* additive, or NULL */
    long mask_batch, mask_head, mask_row, mask_float;
    const bf16 *drop; /* factors, or NULL; those of one head begin where `drop_starts` says */
    const int64_t *drop_starts; /* [batch, heads] */
    bf16 *out, *grad_q, *grad_k, *grad_v; /* [batch, positions, heads, width] */
    float *stats; /* largest score and 1 / sum of each row, [batch, heads, queries, 2] */
    long batch, heads, key_heads, queries, keys, width;
    float scale;
} Attention;

long attention_arguments(void) { return sizeof(Attention); }

INLINE const bf16 *head_of(View view, long b, long h) {
    return view.start + b * view.batch + h * view.head;
}

/* to[j][i] = the pair of elements 2j, 2j+1 of row i, rows filled up with zeros to `padded` */
static void pack_across(const bf16 *from, long stride, long rows, long padded, long width,
                        uint32_t *to) {
    for (long j = 0; j < width / 2; j++)
        for (long i = rows; i < padded; i++) to[j * padded + i] = 0;
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < width / 2; j++)
            memcpy(to + j * padded + i, from + i * stride + 2 * j, 4);
}

/* to[i][d] = the pair of rows 2i, 2i+1 at column d; a missing last row counts as zeros */
static void pack_along(const bf16 *from, long stride, long rows, long width, uint32_t *to) {
    for (long i = 0; i < (rows + 1) / 2; i++) {
        const bf16 *even = from + 2 * i * stride, *odd = even + stride;
        int both = 2 * i + 1 < rows;
        for (long d = 0; d < width; d++)
            to[i * width + d] = even[d] | (both ? (uint32_t)odd[d] << 16 : 0);
    }
}

INLINE float mask_at(const Attention *a, const void *row, long j) {
    if (a->mask_float) return ((const float *)row)[j];
    uint32_t bits = (uint32_t)((const bf16 *)row)[j] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static const void *mask_row(const Attention *a, long b, long h, long i) {
    long at = b * a->mask_batch + h * a->mask_head + i * a->mask_row;
    return a->mask_float ? (const void *)((const float *)a->mask + at)
                         : (const void *)((const bf16 *)a->mask + at);
}

static const bf16 *drop_row(const Attention *a, long b, long h, long i) {
    return a->drop ? a->drop + a->drop_starts[b * a->heads + h] + i * a->keys : NULL;
}

/* How many keys, from the first, some of the rows may look at; all where a row sees none. */
static long visible(const Attention *a, long b, long h, long i, long rows) {
    if (!a->mask) return a->keys;
    long most = 0;
    for (long r = 0; r < rows; r++) {
        if (r && a->mask_row == 0) break;
        const void *row = mask_row(a, b, h, i + r);
        long seen = a->keys;
        while (seen > most && mask_at(a, row, seen - 1) <= MASKED) seen--;
        long own = seen;
        if (own == most) /* nothing beyond what others see: does it see anything itself? */
            while (own > 0 && mask_at(a, row, own - 1) <= MASKED) own--;
        if (own == 0) return a->keys;
        if (seen > most) most = seen;
    }
    return most;
}

/* s[r][j] = sum_d rows[r][d] packed[d][j] for TILE rows; `n` a multiple of 16 */
INLINE void products(const bf16 *rows, long stride, long have, const uint32_t *packed, long padded,
                     long n, long width, float *s, long s_stride) {
    const bf16 *row[TILE];
    for (long r = 0; r < TILE; r++) row[r] = rows + (r < have ? r : 0) * stride;
    for (long j = 0; j < n; j += 32) {
        int two = j + 16 < n;
        __m512 sums[TILE][2];
        for (int r = 0; r < TILE; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
        for (long d = 0; d < width / 2; d++) {
            __m512bh left = pairs(packed + d * padded + j);
            __m512bh right = two ? pairs(packed + d * padded + j + 16) : left;
            for (int r = 0; r < TILE; r++) {
                __m512bh factor = pair(row[r] + 2 * d);
                sums[r][0] = _mm512_dpbf16_ps(sums[r][0], factor, left);
                sums[r][1] = _mm512_dpbf16_ps(sums[r][1], factor, right);
            }
        }
        for (int r = 0; r < TILE; r++) {
            _mm512_storeu_ps(s + r * s_stride + j, sums[r][0]);
            if (two) _mm512_storeu_ps(s + r * s_stride + j + 16, sums[r][1]);
        }
    }
}

/* sums[r][d] += sum over `count` pairs p of weights[p * step_pair + r * step_row] * packed[p][d] */
INLINE void weighted(const uint32_t *weights, long step_pair, long step_row, long have, long count,
                     const uint32_t *packed, long width, float *sums, int begin) {
    for (long d = 0; d < width; d += 32) {
        int two = d + 16 < width;
        __m512 part[TILE][2];
        for (int r = 0; r < TILE; r++)
            for (int half = 0; half < 2; half++)
                part[r][half] = begin || (half && !two) || r >= have
                                    ? _mm512_setzero_ps()
                                    : _mm512_loadu_ps(sums + r * width + d + 16 * half);
        for (long p = 0; p < count; p++) {
            __m512bh left = pairs(packed + p * width + d);
            __m512bh right = two ? pairs(packed + p * width + d + 16) : left;
            for (int r = 0; r < TILE; r++) {
                __m512bh factor = pair(weights + p * step_pair + (r < have ? r : 0) * step_row);
                part[r][0] = _mm512_dpbf16_ps(part[r][0], factor, left);
                part[r][1] = _mm512_dpbf16_ps(part[r][1], factor, right);
            }
        }
        for (int r = 0; r < have && r < TILE; r++) {
            _mm512_storeu_ps(sums + r * width + d, part[r][0]);
            if (two) _mm512_storeu_ps(sums + r * width + d + 16, part[r][1]);
        }
    }
}

/* s = scale s + mask on the first n keys, minus infinity up to the next multiple of 16 */
static void finish_scores(const Attention *a, const void *mask, float *s, long n) {
    __m512 scale = _mm512_set1_ps(a->scale);
    for (long j = 0; j < n; j += 16) {
        __mmask16 real = n - j >= 16 ? 0xffff : (__mmask16)((1u << (n - j)) - 1);
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(s + j), scale);
        if (mask && a->mask_float) {
            v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(real, (const float *)mask + j));
        } else if (mask) {
            __m256i half = _mm256_maskz_loadu_epi16(real, (const bf16 *)mask + j);
            __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
            v = _mm512_add_ps(v, _mm512_castsi512_ps(wide));
        }
        _mm512_storeu_ps(s + j, _mm512_mask_blend_ps(real, _mm512_set1_ps(-INFINITY), v));
    }
}

/* s = softmax of s; its largest element and 1 / sum go to stats */
static void softmax(float *s, long n, float *stats) {
    __m512 top = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (long j = 0; j < n; j += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(s + j));
    float largest = _mm512_reduce_max_ps(top);
    for (long j = 0; j < n; j += 16) {
        __m512 e = exp_(_mm512_sub_ps(_mm512_loadu_ps(s + j), _mm512_set1_ps(largest)));
        _mm512_storeu_ps(s + j, e);
        sum = _mm512_add_ps(sum, e);
    }
    float inverse = 1.0f / _mm512_reduce_add_ps(sum);
    for (long j = 0; j < n; j += 16)
        _mm512_storeu_ps(s + j, _mm512_mul_ps(_mm512_loadu_ps(s + j), _mm512_set1_ps(inverse)));
    stats[0] = largest;
    stats[1] = inverse;
}

INLINE __m512 load_some(const bf16 *p, long left) {
    __mmask16 real = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
    __m256i half = _mm256_maskz_loadu_epi16(real, p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static long up(long n, long to) { return (n + to - 1) / to * to; }

void attention_forward(const Attention *a) {
    long padded = up(a->keys, 16), group = a->heads / a->key_heads;
#pragma omp parallel
    {
        uint32_t *across = scratch(4 * (a->width / 2) * padded);
        uint32_t *along = scratch(4 * (padded / 2) * a->width);
        float *s = scratch(4 * TILE * padded), *sums = scratch(4 * TILE * a->width);
        bf16 *p = scratch(2 * TILE * padded);
#pragma omp for schedule(static)
        for (long unit = 0; unit < a->batch * a->key_heads; unit++) {
            long b = unit / a->key_heads, kh = unit % a->key_heads;
            pack_across(head_of(a->k, b, kh), a->k.row, a->keys, padded, a->width, across);
            pack_along(head_of(a->v, b, kh), a->v.row, a->keys, a->width, along);
            for (long h = kh * group; h < (kh + 1) * group; h++)
                for (long i = 0; i < a->queries; i += TILE) {
                    long have = a->queries - i < TILE ? a->queries - i : TILE;
                    long n = visible(a, b, h, i, have), wide = up(n, 16);
                    products(head_of(a->q, b, h) + i * a->q.row, a->q.row, have, across, padded,
                             wide, a->width, s, padded);
                    for (long r = 0; r < have; r++) {
                        float *row = s + r * padded;
                        long at = (b * a->heads + h) * a->queries + i + r;
                        finish_scores(a, a->mask ? mask_row(a, b, h, i + r) : NULL, row, n);
                        softmax(row, wide, a->stats + 2 * at);
                        const bf16 *drop = drop_row(a, b, h, i + r);
                        for (long j = 0; j < wide; j += 16) {
                            __m512 v = _mm512_loadu_ps(row + j);
                            if (drop) v = _mm512_mul_ps(v, load_some(drop + j, n - j));
                            store(p + r * padded + j, v);
                        }
                    }
                    weighted((uint32_t *)p, 1, padded / 2, have, (n + 1) / 2, along, a->width,
                             sums, 1);
                    for (long r = 0; r < have; r++) {
                        bf16 *to = a->out + (((b * a->queries) + i + r) * a->heads + h) * a->width;
                        for (long d = 0; d < a->width; d += 16)
                            store(to + d, _mm512_loadu_ps(sums + r * a->width + d));
                    }
                }
        }
        free(across), free(along), free(s), free(sums), free(p);
    }
}

/* to[j] = the pair of bfloat16 numbers even[j], odd[j] */
static void interleave(const bf16 *even, const bf16 *odd, long count, uint32_t *to) {
    for (long j = 0; j < count; j += 16) {
        __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(even + j)));
        __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(odd + j)));
        _mm512_storeu_si512(to + j, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

typedef struct { /* what one thread works with */
    uint32_t *k_across, *v_across, *k_along, *q_along, *g_along, *dropped, *slopes;
    float *s, *g, *sums, *grad_k, *grad_v;
    bf16 *row_dropped, *row_slopes;
} Desk;

/* One tile of rows: P * drop and dS, by rows and as pairs of rows side by side. */
static void tile_backward(const Attention *a, const Desk *desk, long b, long h, long i, long have,
                          long n, long padded, uint32_t *dropped, uint32_t *slopes) {
    long wide = up(n, 16);
    products(head_of(a->q, b, h) + i * a->q.row, a->q.row, have, desk->k_across, padded, wide,
             a->width, desk->s, padded);
    products(head_of(a->grad, b, h) + i * a->grad.row, a->grad.row, have, desk->v_across, padded,
             wide, a->width, desk->g, padded);
    for (long r = 0; r < TILE; r++) {
        float *p = desk->s + r * padded, *dp = desk->g + r * padded;
        bf16 *row_slopes = desk->row_slopes + r * padded;
        bf16 *row_dropped = desk->row_dropped + r * padded;
        if (r >= have) {
            memset(row_slopes, 0, 2 * padded);
            memset(row_dropped, 0, 2 * padded);
            continue;
        }
        long at = (b * a->heads + h) * a->queries + i + r;
        __m512 largest = _mm512_set1_ps(a->stats[2 * at]);
        __m512 inverse = _mm512_set1_ps(a->stats[2 * at + 1]), sum = _mm512_setzero_ps();
        const bf16 *drop = drop_row(a, b, h, i + r);
        finish_scores(a, a->mask ? mask_row(a, b, h, i + r) : NULL, p, n);
        for (long j = 0; j < wide; j += 16) {
            __m512 v = exp_(_mm512_sub_ps(_mm512_loadu_ps(p + j), largest));
            v = _mm512_mul_ps(v, inverse);
            __m512 slope = _mm512_loadu_ps(dp + j), kept = v;
            if (drop) {
                __m512 factor = load_some(drop + j, n - j);
                slope = _mm512_mul_ps(slope, factor);
                kept = _mm512_mul_ps(v, factor);
            }
            sum = _mm512_fmadd_ps(slope, v, sum);
            _mm512_storeu_ps(p + j, v);
            _mm512_storeu_ps(dp + j, slope);
            store(row_dropped + j, kept);
        }
        __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum)), scale = _mm512_set1_ps(a->scale);
        for (long j = 0; j < wide; j += 16) {
            __m512 ds = _mm512_sub_ps(_mm512_loadu_ps(dp + j), mean);
            store(row_slopes + j,
                  _mm512_mul_ps(_mm512_mul_ps(ds, _mm512_loadu_ps(p + j)), scale));
        }
        memset(row_slopes + wide, 0, 2 * (padded - wide));
        memset(row_dropped + wide, 0, 2 * (padded - wide));
    }
    for (long r = 0; r < TILE; r += 2) {
        const bf16 *slope = desk->row_slopes + r * padded, *drop = desk->row_dropped + r * padded;
        interleave(slope, slope + padded, padded, slopes + r / 2 * padded);
        interleave(drop, drop + padded, padded, dropped + r / 2 * padded);
    }
}

static Desk desk_for(long padded, long w) {
    return (Desk){
        .k_across = scratch(2 * w * padded), .v_across = scratch(2 * w * padded),
        .k_along = scratch(2 * w * padded), .q_along = scratch(2 * BLOCK * w),
        .g_along = scratch(2 * BLOCK * w), .dropped = scratch(2 * BLOCK * padded),
        .slopes = scratch(2 * BLOCK * padded), .s = scratch(4 * TILE * padded),
        .g = scratch(4 * TILE * padded), .sums = scratch(4 * TILE * w),
        .grad_k = scratch(4 * padded * w), .grad_v = scratch(4 * padded * w),
        .row_dropped = scratch(2 * TILE * padded), .row_slopes = scratch(2 * TILE * padded),
    };
}

static void clear(Desk *d) {
    free(d->k_across), free(d->v_across), free(d->k_along), free(d->q_along), free(d->g_along);
    free(d->dropped), free(d->slopes), free(d->s), free(d->g), free(d->sums), free(d->grad_k);
    free(d->grad_v), free(d->row_dropped), free(d->row_slopes);
}

/* All query rows of one head, a block at a time; grad_k and grad_v are added up. */
static void head_backward(const Attention *a, const Desk *desk, long b, long h, long padded) {
    long w = a->width;
    for (long i0 = 0; i0 < a->queries; i0 += BLOCK) {
        long rows = a->queries - i0 < BLOCK ? a->queries - i0 : BLOCK, most = 0;
        pack_along(head_of(a->q, b, h) + i0 * a->q.row, a->q.row, rows, w, desk->q_along);
        pack_along(head_of(a->grad, b, h) + i0 * a->grad.row, a->grad.row, rows, w, desk->g_along);
        for (long i = 0; i < rows; i += TILE) {
            long have = rows - i < TILE ? rows - i : TILE, n = visible(a, b, h, i0 + i, have);
            most = n > most ? n : most;
            tile_backward(a, desk, b, h, i0 + i, have, n, padded, desk->dropped + i / 2 * padded,
                          desk->slopes + i / 2 * padded);
            weighted((uint32_t *)desk->row_slopes, 1, padded / 2, have, (n + 1) / 2, desk->k_along,
                     w, desk->sums, 1);
            for (long r = 0; r < have; r++) {
                bf16 *to = a->grad_q + (((b * a->queries) + i0 + i + r) * a->heads + h) * w;
                for (long d = 0; d < w; d += 16) store(to + d, _mm512_loadu_ps(desk->sums + r * w + d));
            }
        }
        for (long j = 0; j < most; j += TILE) {
            long have = most - j < TILE ? most - j : TILE, count = (rows + 1) / 2;
            weighted(desk->slopes + j, padded, 1, have, count, desk->q_along, w,
                     desk->grad_k + j * w, 0);
            weighted(desk->dropped + j, padded, 1, have, count, desk->g_along, w,
                     desk->grad_v + j * w, 0);
        }
    }
}

void attention_backward(const Attention *a) {
    long padded = up(a->keys, 16), group = a->heads / a->key_heads, w = a->width;
#pragma omp parallel
    {
        Desk desk = desk_for(padded, w);
#pragma omp for schedule(static)
        for (long unit = 0; unit < a->batch * a->key_heads; unit++) {
            long b = unit / a->key_heads, kh = unit % a->key_heads;
            const bf16 *k = head_of(a->k, b, kh);
            pack_across(k, a->k.row, a->keys, padded, w, desk.k_across);
            pack_along(k, a->k.row, a->keys, w, desk.k_along);
            pack_across(head_of(a->v, b, kh), a->v.row, a->keys, padded, w, desk.v_across);
            memset(desk.grad_k, 0, 4 * padded * w);
            memset(desk.grad_v, 0, 4 * padded * w);
            for (long h = kh * group; h < (kh + 1) * group; h++)
                head_backward(a, &desk, b, h, padded);
            for (long j = 0; j < a->keys; j++)
                for (long d = 0; d < w; d += 16) {
                    long at = ((b * a->keys + j) * a->key_heads + kh) * w + d;
                    store(a->grad_k + at, _mm512_loadu_ps(desk.grad_k + j * w + d));
                    store(a->grad_v + at, _mm512_loadu_ps(desk.grad_v + j * w + d));
                }
        }
        clear(&desk);
    }
}
