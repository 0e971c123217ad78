// Example draws a prompt into a PNG: all that a program of your own needs in order to make pictures from words.
//
//	go run . "red heart" red-heart.png
//
// Copy this folder, and let the replace line of its go.mod point to where netfusion lies. The weights are in the program:
// importing netfusion/cinn/pack embeds them. To use a file that "cinn pack" wrote instead, call cinn.Open(path, cinn.Options{}).
package main

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/signal"

	"netfusion/cinn"
	"netfusion/cinn/pack"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, `usage: example PROMPT FILE.png`)
		os.Exit(2)
	}
	// The context is read between the layers of the experts: Ctrl-C, or a deadline, ends a call early.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := draw(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func draw(ctx context.Context, prompt, path string) error {
	// A Model is the weights. It never changes: one is enough for a program, however many goroutines it has.
	model, err := pack.Open(cinn.Options{})
	if err != nil {
		return err
	}
	defer model.Close()

	// A Session is the buffers and the workers of one caller. A server keeps one for each request that it serves at a time.
	session, err := model.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()

	// Generate allocates nothing: the image is yours, and may be used again for the next picture. The same seed gives the
	// same picture; Sample counts the draws of a seed.
	img := image.NewNRGBA(model.Bounds())
	if err := session.Generate(ctx, img, cinn.Request{Prompt: prompt, Seed: 1}); err != nil {
		return err
	}
	t := session.Timings()
	fmt.Printf("%s: encode %v, flow %v, decode %v\n", path, t.Encode, t.Flow, t.Decode)

	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := png.Encode(file, img); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
