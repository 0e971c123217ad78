// What a contestant in C does: its arguments, and the loop that README.md describes. A program defines call and result, and then serves;
// it includes this file after dnnl.h.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int words;
static char **word;

static void check(int ok, const char *what) {
	if (!ok) {
		fprintf(stderr, "onednn: %s failed\n", what);
		exit(1);
	}
}
#define TRY(call) check((call) == dnnl_success, #call)

static const char *text(const char *key) {
	for (int i = 1; i < words; i++)
		if (!strncmp(word[i], key, strlen(key)) && word[i][strlen(key)] == '=')
			return word[i] + strlen(key) + 1;
	fprintf(stderr, "onednn: no %s=\n", key);
	exit(1);
}
static dnnl_dim_t number(const char *key) { return atoll(text(key)); }

// read_numbers returns what all contestants of a case read in the same order.
static float *read_numbers(void) {
	FILE *f = fopen(text("data"), "rb");
	check(f && !fseek(f, 0, SEEK_END), text("data"));
	size_t size = ftell(f);
	float *numbers = malloc(size);
	rewind(f);
	check(fread(numbers, 1, size, f) == size && !fclose(f), text("data"));
	return numbers;
}

static void call(void);
static float *result(size_t *count); // of the last call, in the order that main.go has

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void measure(double seconds) {
	enum { most = 1 << 18 };
	static double times[most];
	int calls = 0;
	double begin = now(), t = begin;
	do {
		double from = t;
		call();
		t = now();
		times[calls++] = t - from;
	} while (t - begin < 1e3 * seconds && calls < most);
	qsort(times, calls, sizeof *times, ascending);
	printf("{\"calls\": %d, \"median\": %.6f, \"least\": %.6f}\n", calls, times[calls / 2], times[0]);
}

static void output(const char *path) {
	size_t count;
	call();
	float *values = result(&count);
	FILE *f = fopen(path, "wb");
	check(f && fwrite(values, 4, count, f) == count && !fclose(f), path);
	printf("{\"values\": %zu}\n", count);
}

static void serve(void) {
	call();
	const dnnl_version_t *v = dnnl_version();
	printf("{\"ready\": \"oneDNN\", \"version\": \"%d.%d.%d\"}\n", v->major, v->minor, v->patch);
	fflush(stdout);
	char line[4096], value[4096];
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "run %4095s", value) == 1)
			measure(atof(value));
		else if (sscanf(line, "output %4095s", value) == 1)
			output(value);
		else
			check(0, line);
		fflush(stdout);
	}
}
