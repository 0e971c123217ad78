package cinn_test

import (
	"context"
	"fmt"
	"image"
	"log"
	"time"

	"netfusion/cinn"
)

// Four draws of a prompt from a pack, one after the other into the same image.
func Example() {
	model, err := cinn.Open("my.pack", cinn.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	img := image.NewNRGBA(model.Bounds())
	for sample := range uint64(4) {
		if err := session.Generate(ctx, img, cinn.Request{Prompt: "red heart", Seed: 1, Sample: sample}); err != nil {
			log.Fatal(err)
		}
		fmt.Println(session.Timings(), img.At(16, 16))
	}
}

// The embedding that a flow is conditioned on is of use by itself: to compare texts, or to find the nearest of many.
func ExampleSession_Embed() {
	model, err := cinn.Open("my.pack", cinn.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	v := make([]float32, model.Info().Condition)
	if err := session.Embed(context.Background(), v, "a red heart"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(v[:4])
}

// A sad face is drawn, and then made happy: what "sad face" leaves open stays. A picture of the caller's takes the place of the draw by
// cinn.Subject{Image: model.Fit(img)}.
func ExampleSession_Edit() {
	model, err := cinn.Open("my.pack", cinn.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	img := image.NewNRGBA(model.Bounds())
	if err := session.Edit(context.Background(), img, cinn.Edit{
		Subject: cinn.Subject{Draw: &cinn.Request{Prompt: "sad face", Seed: 1}},
		To:      cinn.Condition{Prompt: "happy face"},
	}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(img.At(16, 16))
}

// Which of two captions fits a picture?
func ExampleSession_Rank() {
	model, err := cinn.Open("my.pack", cinn.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	session, err := model.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	var picture image.Image // read by package image
	captions := []string{"red heart", "blue heart"}
	scores, err := session.Rank(context.Background(), []cinn.Subject{{Image: model.Fit(picture)}},
		[]cinn.Condition{{Prompt: captions[0]}, {Prompt: captions[1]}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(captions[cinn.Order([]float64{scores[0].Match(), scores[1].Match()})[0]])
}
