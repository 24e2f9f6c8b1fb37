/* Classifies handwritten digits with libdigits.so; no Python anywhere.
 *
 *   ./digits images.f32      each image 64 floats from 0 (paper) to 1 (ink), 8 rows of 8
 *
 * Prints one digit per line. Exit status: 0, 1 for a bad file, 2 for an error of the library.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

enum { PIXELS = 64, DIGITS = 10 };

/* The whole file as floats; NULL where it cannot be read or does not hold whole images. */
static float *read_images(const char *path, int64_t *count) {
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  float *images = NULL;
  if (fseek(file, 0, SEEK_END) == 0) {
    const long bytes = ftell(file);
    const long image = PIXELS * (long)sizeof(float);
    if (bytes > 0 && bytes % image == 0 && fseek(file, 0, SEEK_SET) == 0) {
      images = malloc((size_t)bytes);
      *count = bytes / image;
    }
    if (images && fread(images, (size_t)image, (size_t)*count, file) != (size_t)*count) {
      free(images);
      images = NULL;
    }
  }
  fclose(file);
  return images;
}

int main(int argc, char **argv) {
  int64_t count = 0;
  float *images = argc == 2 ? read_images(argv[1], &count) : NULL;
  if (!images) {
    fprintf(stderr, "usage: %s FILE, a file of images of 64 floats each\n", argv[0]);
    return 1;
  }
  int64_t *digits = malloc((size_t)count * sizeof *digits);
  float *probabilities = malloc((size_t)count * DIGITS * sizeof *probabilities);
  int status = 2;
  if (digits && probabilities) {
    if (digits_predict(images, digits, probabilities, count) == GML_OK) {
      for (int64_t i = 0; i < count; ++i) printf("%" PRId64 "\n", digits[i]);
      status = 0;
    } else {
      fprintf(stderr, "%s\n", gml_digits_last_error());
    }
  }
  free(images);
  free(digits);
  free(probabilities);
  return status;
}
