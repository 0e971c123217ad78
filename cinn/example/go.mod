module example

go 1.26.0

require netfusion v0.0.0

require (
	github.com/klauspost/compress v1.20.3 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

// netfusion has no host of its own yet: point this at your copy.
replace netfusion => ../..
