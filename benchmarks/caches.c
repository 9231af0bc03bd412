/* One kernel of the level avx2, called some times by one thread, for a simulator of caches to watch.
 *
 * caches TIMES L1 L2 product FORM M N K            FORM: forward, input or weight
 * caches TIMES L1 L2 attention DIRECTION T H D     DIRECTION: forward or backward
 *
 * caches.py compiles and runs it. Two runs that differ by one call differ by what that call does. */
#include "levels.h"
#include <stdio.h>
#include <stdlib.h>

tiss_caches tiss_blocked_for; /* levels.c would bring every level */

static float *numbers(int64_t n)
{
    float *x = aligned_alloc(4096, (size_t)(4 * n + 8191) / 4096 * 4096);
    uint32_t state = 1;
    for (int64_t i = 0; x && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    if (!x)
        exit(1);
    return x;
}

/* A product as gemm.pyx cuts it for one thread: in parts of about 192 columns, or 384. */
static void product(const tiss_table *level, int times, const char *form, int m, int n, int k)
{
    const int down = form[0] == 'w', parts = n / (down ? 384 : 192), across = parts ? parts : 1;
    const int panels = (n + level->nr - 1) / level->nr;
    tiss_gemm g = {.m = m, .n = n, .k = k, .a = numbers((int64_t)m * k), .b = numbers((int64_t)n * k),
                   .c = numbers((int64_t)m * n), .c_row = n, .activation = -1};
    g.a_row = down ? 1 : k;
    g.a_col = down ? m : 1;
    g.b_row = form[0] == 'f' ? 1 : n;
    g.b_col = form[0] == 'f' ? k : 1;
    float *scratch = numbers(level->gemm_scratch(&g));
    for (int i = 0; i < times; i++)
        for (int j = 0; j < across; j++) {
            const int from = panels * j / across * level->nr, to = panels * (j + 1) / across * level->nr;
            tiss_gemm part = g;
            part.n = (to < n ? to : n) - from;
            part.b = (const float *)g.b + from * g.b_col;
            part.c = (float *)g.c + from;
            level->gemm(&part, scratch);
        }
}

static void attention(const tiss_table *level, int times, const char *direction, int T, int H, int D)
{
    const tiss_rows *rows = &level->of[TISS_F32];
    tiss_attention p = {.T = T, .D = D, .n_head = H, .n_kv_head = H, .row = 3 * H * D,
                        .out_row = H * D, .scale = 1.0f / sqrtf((float)D), .pieces = 1};
    float *qkv = numbers(T * p.row), *out = numbers(T * p.out_row), *lse = numbers((int64_t)H * T);
    float *dout = numbers(T * p.out_row), *dqkv = numbers(T * p.row);
    float *scratch = numbers(rows->attention_scratch(T, D));
    const int forward = direction[0] == 'f';
    for (int i = 0; i < times + !forward; i++) /* backward needs what forward leaves */
        for (int h = 0; h < H; h++)
            if (forward || !i)
                for (int tile = 0; tile * TISS_TILE < T; tile++)
                    rows->attention_forward(&p, h, tile, qkv, out, lse + (int64_t)h * T, scratch);
            else
                rows->attention_backward(&p, h, dout, qkv, out, lse + (int64_t)h * T, dqkv, NULL,
                                         scratch);
}

int main(int argc, char **argv)
{
    const tiss_table *level = level_avx2;
    if (argc != 9) {
        fprintf(stderr, "caches: expected eight arguments\n");
        return 1;
    }
    const int times = atoi(argv[1]), x = atoi(argv[6]), y = atoi(argv[7]), z = atoi(argv[8]);
    tiss_blocked_for = (tiss_caches){atoll(argv[2]), atoll(argv[3])};
    if (argv[4][0] == 'p')
        product(level, times, argv[5], x, y, z);
    else
        attention(level, times, argv[5], x, y, z);
    return 0;
}
