// Package memory allocates what is large and read from end to end, such as weights.
package memory

// Make is make([]T, n) in large pages, if the operating system has them to give: memory is read some percent faster then, since
// there are fewer of them to look up, and prefetching does not end at each 4 KiB. T must not contain pointers.
func Make[T any](n int) []T {
	s := make([]T, n)
	large(s)
	return s
}
