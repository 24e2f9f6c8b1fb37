/* Calls the library that build.py writes: one row, many rows, no rows, and an error.
 *
 *   python build.py
 *   cc -std=c99 mlp.c -L. -lmlp -Wl,-rpath,'$ORIGIN' -o mlp_c && ./mlp_c
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "mlp.h"

enum { INPUTS = 64, CLASSES = 10, ROWS = 1000 };

static void fill(float *x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = (float)(i % 17) / 8.0f - 1.0f;
}

int main(void) {
  float *x = (float *)malloc(sizeof(float) * ROWS * INPUTS);
  float *out = (float *)malloc(sizeof(float) * ROWS * CLASSES);
  float first[CLASSES];
  if (!x || !out) return 1;
  fill(x, ROWS * INPUTS);

  if (mlp(x, first, 1) != GML_OK) {
    fprintf(stderr, "%s\n", gml_mlp_last_error());
    return 1;
  }
  /* the same function for any number of rows, on two threads */
  if (gml_mlp_set_threads(2) != GML_OK || mlp(x, out, ROWS) != GML_OK) {
    fprintf(stderr, "%s\n", gml_mlp_last_error());
    return 1;
  }
  for (int j = 0; j < CLASSES; ++j) {
    if (fabsf(out[j] - first[j]) > 1e-5f) {
      fprintf(stderr, "one row and many rows differ at %d: %g, %g\n", j, first[j], out[j]);
      return 1;
    }
  }
  if (mlp(NULL, NULL, 0) != GML_OK) return 1;
  if (mlp(NULL, out, 1) != GML_BAD_ARGUMENT) return 1;
  printf("%s\n", gml_mlp_last_error());
  if (mlp(x, out, -1) != GML_BAD_DIM) return 1;
  printf("%s\n", gml_mlp_last_error());

  double sum = 0;
  for (int i = 0; i < ROWS * CLASSES; ++i) sum += out[i];
  printf("sum of %d rows: %.3f\n", ROWS, sum);
  free(x);
  free(out);
  return 0;
}
