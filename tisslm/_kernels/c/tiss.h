/* The table of serial row and tile functions, one per instruction-set level.
 *
 * Every function works on memory its caller owns, allocates nothing, starts no thread and
 * raises nothing. levels/ compiles the same sources once per level; isa.pyx picks a table.
 */
#ifndef TISS_H
#define TISS_H

#include <stdint.h>

/* Key of a stream of random numbers: one dropout site in one optimizer update. */
typedef struct {
    uint64_t seed;
    uint32_t update;
    uint32_t site;
    uint32_t threshold; /* a 32-bit word below it drops its element */
    float scale;        /* what a kept element is multiplied by: 1 / (1 - p) */
} tiss_dropout;

/* How the elements of an array are stored. */
#define TISS_F32 0
#define TISS_BF16 1
#define TISS_F16 2

/* The most rows, or columns, of an array: they are counted as int, in steps of less than 4096. What
 * is a product of two such counts, or a place in an array, is an int64_t. */
#define TISS_MOST (INT32_MAX - 4095)

/* One product C (+)= A B. Either stride of A and of B is 1; strides count elements. */
typedef struct {
    int m, n, k;
    int a_type, b_type, c_type; /* act has the type of C */
    const void *a; int64_t a_row, a_col;
    const void *b; int64_t b_row, b_col;
    const float *bias;      /* added to every row, or NULL */
    void *c; int64_t c_row;
    int accumulate;         /* add to C, which then is f32 */
    int activation;         /* -1, or the code of what is written to act */
    void *act;              /* same row stride as C */
} tiss_gemm;

typedef struct {
    int T, D, n_head, n_kv_head;
    int64_t row;            /* elements from one token to the next in qkv */
    int64_t out_row;        /* elements from one token to the next in out */
    float scale;
    const tiss_dropout *dropout; /* NULL: none */
    uint32_t sample;
    const int32_t *start;   /* the first key that each query sees, not decreasing, or NULL: key 0 */
    const int32_t *stop;    /* the first behind those, likewise, or NULL: that after its own */
    int piece, pieces;      /* of a head's backward that several threads share; 0 of 1: all of it */
    int step;               /* of backward: 0 all; 1 dq, with P and dS kept; 2 dk and dv from these */
    float *kept;            /* tile pairs, so many in each of some equal slots */
    int64_t kept_slot, kept_each; /* floats of a slot; pairs that it has room for */
    int64_t kept_first;     /* pair with which this head begins */
} tiss_attention;

/* The functions of a level, each written once: the structs below, the tables of level.inc and
 * Cython's view (isa.pxd) follow these two lists. F is given the result, the name and the arguments.
 *
 * What depends on how activations are stored, for the storage T; `void *` is an array of that type. */
#define TISS_ROW_FUNCTIONS(F, T)                                                                  \
    F(T, void, layer_norm_forward, (const float *h, const float *gamma, const float *beta,        \
                                    void *x, void *y, float *mean, float *rstd, int C, float eps)) \
    F(T, void, layer_norm_apply, (const void *x, const float *gamma, const float *beta, float mean, \
                                  float rstd, void *y, int C))                                    \
    F(T, void, layer_norm_backward, (const float *dy, const void *x, const float *gamma, float mean, \
                                     float rstd, const float *dres, float *dx, float *dgamma,     \
                                     float *dbeta, int C))                                        \
    F(T, void, rms_norm_forward, (const float *h, const float *gamma, void *x, void *y, float *rstd,\
                                  int C, float eps))                                              \
    F(T, void, rms_norm_apply, (const void *x, const float *gamma, float rstd, void *y, int C))   \
    F(T, void, rms_norm_backward, (const float *dy, const void *x, const float *gamma, float rstd,\
                                   const float *dres, float *dx, float *dgamma, int C))           \
    F(T, void, activation_forward, (const void *x, void *y, int64_t n, int code))                 \
    F(T, void, activation_backward, (const void *x, const void *dy, void *dx, void *y, int64_t n, \
                                     int code))                                                   \
    F(T, void, gated_forward, (const void *pre, void *act, int F, int code))                      \
    F(T, void, gated_backward, (const void *pre, const void *dact, void *dpre, void *act, int F,  \
                                int code))                                                        \
    F(T, void, drop, (const tiss_dropout *d, uint32_t sample, uint64_t element, const float *x,   \
                      void *y, int n))                                                            \
    F(T, void, residual, (const tiss_dropout *d, uint32_t sample, uint64_t element, float *h,     \
                          const void *y, int n))                                                  \
    F(T, void, sum_rows, (const void *x, int64_t row, int64_t rows, int n, float *total))         \
    F(T, void, pool_max, (const void *x, int64_t row, int32_t rows, int n, float *best,            \
                          int32_t *place))                                                        \
    F(T, void, rotate, (const void *x, const float *cosine, const float *sine, float sign, void *y, \
                        int heads, int others, int D, int R))                                     \
    F(T, void, head_norm_forward, (const void *x, const float *gamma, float *rstd, void *y,       \
                                   int norms, int width, float eps))                              \
    F(T, void, head_norm_backward, (const void *dy, const void *x, const float *gamma,            \
                                    const float *rstd, void *dx, float *dgamma, int norms,        \
                                    int width))                                                   \
    F(T, void, linear_decode, (const float *x, int64_t N, int C, const void *w, int O,            \
                               const float *bias, float *y, int64_t y_row))                       \
    F(T, int64_t, attention_scratch, (int time, int D)) /* floats */                                \
    F(T, void, attention_forward, (const tiss_attention *p, int head, int tile, const void *qkv,  \
                                   void *out, float *lse, float *scratch))                        \
    F(T, void, attention_backward, (const tiss_attention *p, int head, const void *dout,          \
                                    const void *qkv, const void *out, const float *lse,           \
                                    void *dqkv, float *dkv, float *scratch))                      \
    F(T, void, attention_add_heads, (const tiss_attention *p, int kv_head, int tile, float *dkv,  \
                                     void *dqkv))                                                 \
    F(T, void, attention_entropy, (const tiss_attention *p, int head, int tile, const void *qkv,  \
                                   const float *lse, float *entropy, float *scratch))

#define TISS_FUNCTIONS(F)                                                                         \
    F(int64_t, gemm_scratch, (const tiss_gemm *g)) /* floats that gemm needs */                   \
    F(void, gemm, (const tiss_gemm *g, float *scratch))                                           \
    F(void, attention_decode, (const float *q, const float *k, const float *v, float *out,        \
                               int length, int D, float scale, float *scores))                    \
    F(void, add, (float *x, const float *y, int64_t n))                                           \
    F(void, average, (float *average, const float *p, int64_t n, double rest))                    \
    F(void, multiply, (float *x, const float *y, int64_t n))                                      \
    F(void, soft_cap, (float *z, float *slope, float cap, int64_t n))                             \
    F(void, scale, (float *x, float s, int64_t n))                                                \
    F(double, squared_norm, (const float *x, int64_t n))                                          \
    F(void, summarize, (const float *x, int64_t n, float low, float high, double *out)) /* five */ \
    F(float, max, (const float *x, int64_t n))                                                    \
    F(float, sum, (const float *x, float shift, int64_t n))                                       \
    F(float, exp_sum, (const float *x, float shift, int64_t n))                                   \
    F(void, softmax_scale, (float *x, float top, float coefficient, float offset, int64_t n))     \
    F(int64_t, rank, (const float *x, int64_t target, int64_t n))                                 \
    F(void, sgd, (float *p, const float *g, float *buf, int64_t n, float lr, float momentum,      \
                  int nesterov, float decay, int first, float grad_scale, double *moved))         \
    F(void, adam, (float *p, const float *g, float *m, float *v, int64_t n, double lr,            \
                   double beta1, double beta2, float eps, double decay, int decoupled, double c1, \
                   double c2, float grad_scale, double *moved))                                   \
    F(void, rmsprop, (float *p, const float *g, float *square, float *average, float *buf,        \
                      int64_t n, float lr, double alpha, float eps, float decay, float momentum,  \
                      float grad_scale, double *moved))                                           \
    F(double, fma_flops, (int64_t repeats, float *sink))

#define TISS_ROW_MEMBER(T, result, name, arguments) result (*name) arguments;
#define TISS_MEMBER(result, name, arguments) result (*name) arguments;

typedef struct {
    TISS_ROW_FUNCTIONS(TISS_ROW_MEMBER, void)
} tiss_rows;

typedef struct {
    const char *name;
    int level;
    int mr, nr;             /* rows and columns of a product's tile */
    int pairs;              /* bfloat16 is multiplied as it is, in pairs */
    tiss_rows of[3];        /* by storage type */
    TISS_FUNCTIONS(TISS_MEMBER)
    double (*dot_flops)(int64_t repeats, float *sink); /* NULL without pairs */
} tiss_table;

#undef TISS_ROW_MEMBER
#undef TISS_MEMBER

#define TISS_BASELINE 0
#define TISS_NEON 1
#define TISS_NEON_BF16 2
#define TISS_AVX2 3
#define TISS_AVX512 4
#define TISS_AVX512_BF16 5
#define TISS_GELU 0
#define TISS_GELU_TANH 1
#define TISS_SILU 2
#define TISS_RELU2 3
#define TISS_TILE 64 /* queries and keys of one attention tile */
#define TISS_PAIR (2 * TISS_TILE * TISS_TILE) /* floats of P and dS of a pair of tiles */

/* The caches of one core that products are blocked for, in bytes. Bits do not depend on them. */
typedef struct {
    int64_t l1, l2;
} tiss_caches;

/* Block products for a first and a second level; products that run must end first. */
void tiss_block_for(int64_t l1, int64_t l2);

/* The table of a level, or NULL where this processor or this build lacks it. */
const tiss_table *tiss_level(int level);

#endif
