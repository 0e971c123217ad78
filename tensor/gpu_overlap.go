package tensor

import "regexp"

// overlaps tells whether launches may begin early.
func (g *GPU) overlaps() bool { return g.options.Overlap && g.attributes.Capability >= 90 }

var (
	targetLine  = regexp.MustCompile(`(?m)^\.target sm_80$`)
	entryHeader = regexp.MustCompile(`\.entry \w+\([^)]*\)[^{]*\{\n`)
)

// overlapping makes kernels that can be launched early (programmatic dependent launch): at its beginning an entry lets the launch after
// it come to the device, as soon as all of its own blocks have, and waits until what was launched before it has ended and can be seen.
// So nothing is read or written too early, and what is saved is the time from the end of one launch to the beginning of the next. The
// two instructions are those of compute capability 9.0 and later; the rest of the text is as it was.
func overlapping(text string) string {
	text = targetLine.ReplaceAllLiteralString(text, ".target sm_90")
	return entryHeader.ReplaceAllString(text, "$0\tgriddepcontrol.launch_dependents;\n\tgriddepcontrol.wait;\n")
}
