/* Stochastic gradient descent of 784-32-10, ReLU and softmax cross-entropy, batch 1, float: what a
   processor's core does with its vector instructions, for comparison.

   The update of a sample and the forward pass of the next go over the first layer's weights
   together, so that each is read and written once a sample. No input and no unit is skipped. */

#include <math.h>
#include <stddef.h>

enum { INPUTS = 784, HIDDEN = 32, OUTPUTS = 10, LANES = 16, ROWS = 16, WORDS = INPUTS / LANES };

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static float sum(vec v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

/* w -= delta * before, then h = w * x, for all rows. */
static void first(vec (*restrict w)[WORDS], const float *restrict delta, const vec *restrict before,
                  const vec *restrict x, float *restrict h) {
  for (int row = 0; row < HIDDEN; row += ROWS) {
    vec d[ROWS], acc[ROWS];
    for (int r = 0; r < ROWS; r++) {
      d[r] = delta[row + r] - (vec){};
      acc[r] = (vec){};
    }
    for (int i = 0; i < WORDS; i++) {
      vec b = before[i], v = x[i];
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; r++) {
        vec word = w[row + r][i] - d[r] * b;
        w[row + r][i] = word;
        acc[r] += word * v;
      }
    }
    for (int r = 0; r < ROWS; r++) h[row + r] = sum(acc[r]);
  }
}

/* Learns `count` samples in their order; weights are rows of units, as NumPy has them. Fast if x and
   w1 begin at multiples of 64 bytes. */
void train(const float *x, const int *labels, int count, float rate, float *w1, float *b1, float *w2,
           float *b2) {
  vec(*w)[WORDS] = (vec(*)[WORDS])w1;
  const vec *before = (const vec *)x;
  float delta[HIDDEN] = {0}, h[HIDDEN];
  for (int n = 0; n < count; n++) {
    const vec *now = (const vec *)x + (size_t)n * WORDS;
    first(w, delta, before, now, h);
    for (int j = 0; j < HIDDEN; j++) h[j] = fmaxf(h[j] + b1[j], 0);
    float f[OUTPUTS], most = -INFINITY, total = 0;
    for (int k = 0; k < OUTPUTS; k++) {
      float s = b2[k];
      for (int j = 0; j < HIDDEN; j++) s += w2[k * HIDDEN + j] * h[j];
      f[k] = s;
      most = fmaxf(most, s);
    }
    for (int k = 0; k < OUTPUTS; k++) total += f[k] = expf(f[k] - most);
    for (int j = 0; j < HIDDEN; j++) delta[j] = 0;
    for (int k = 0; k < OUTPUTS; k++) {
      float d = rate * (f[k] / total - (k == labels[n]));
      for (int j = 0; j < HIDDEN; j++) {
        delta[j] += d * w2[k * HIDDEN + j];
        w2[k * HIDDEN + j] -= d * h[j];
      }
      b2[k] -= d;
    }
    for (int j = 0; j < HIDDEN; j++) {
      delta[j] = h[j] > 0 ? delta[j] : 0;
      b1[j] -= delta[j];
    }
    before = now;
  }
  first(w, delta, before, before, h);
}
