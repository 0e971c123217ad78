package train

import (
	"fmt"
	"slices"
	"strings"

	"netfusion/cinn/flow"
)

// Preset is a shape of flow and a way to train it that have a name. Cond and Latent of the Config are those of the experts that it is
// for; pairs of other sizes can be trained on as well. It has no class head: pairs that have classes add one.
type Preset struct {
	Name    string
	About   string
	Config  flow.Config
	Options Options
	Blind   bool // trained without conditions
}

// Presets lists them: ours first, then the configs of Rombach, Esser and Ommer 2020 in their dialect, with their optimizer. Those say
// neither how many steps to take nor when to validate: 100,000 and every 1000 are ours, but for invariances, which says 250,000.
func Presets() []Preset {
	list := []Preset{
		{Name: "emoji", About: "the built-in fusion: a text to an emoji", Config: flow.Config{
			Dialect: flow.NetFusion, Cond: 384, Latent: 128, Blocks: 10, Hidden: 256, Depth: 1, Clamp: 2,
			Embed: 96, EmbedWidth: 384, EmbedDepth: 1, ClassNoise: 0.2,
		}, Options: Defaults()},
		{Name: "netfusion-biggan256", About: "sbert-to-biggan256 in our dialect: half the parameters, a linear layer first, guidance", Config: flow.Config{
			Dialect: flow.NetFusion, Cond: 768, Latent: 268, Blocks: 24, Hidden: 1024, Depth: 2, Clamp: 2,
			Embed: 268, EmbedWidth: 256, EmbedDepth: 2, ClassNoise: 0.2,
		}, Options: generous()},
	}
	for _, p := range []struct {
		name, about                                              string
		cond, embed, latent, blocks, hidden, depth, batch, steps int
	}{
		{"sbert-to-biggan256", "text to BigGAN at 256 pixels", 768, 268, 268, 24, 1024, 2, 16, 100000},
		{"sbert-to-bigbigan", "text to BigBiGAN", 1024, 256, 120, 24, 1024, 2, 16, 100000},
		{"sbert-to-ae-coco256", "text to an autoencoder of COCO", 1024, 256, 256, 24, 1024, 2, 16, 100000},
		{"faces32-to-faces256", "superresolution of faces, from autoencoder to autoencoder", 128, 128, 128, 20, 1024, 2, 6, 100000},
		{"creativity-anime", "a label, photo or anime, to faces", 2, 10, 128, 20, 1024, 2, 15, 100000},
		{"creativity-portraits", "a label, photo or portrait, to faces", 2, 10, 128, 20, 1024, 2, 15, 100000},
		{"creativity-celeba3", "a label, which of three sets, to faces", 3, 10, 128, 20, 1024, 2, 15, 100000},
		{"invariances", "a layer of AlexNet or ResNet, as a vector, to an autoencoder", 4096, 128, 128, 20, 1024, 2, 16, 250000},
		{"iin-celeba", "an autoencoder of faces, without a condition", 1, 1, 64, 12, 512, 2, 25, 100000},
	} {
		o := Options{
			Steps: p.steps, Batch: p.batch, Seed: 23,
			Optimizer: "amsgrad", Rate: 4.5e-6 * float64(p.batch), Floor: 1, Beta1: 0.5, Beta2: 0.9,
			Validate: 1000, Draws: 1,
		}
		list = append(list, Preset{p.name, p.about + " (net2net)", flow.Config{
			Dialect: flow.Net2Net, Cond: p.cond, Latent: p.latent, Blocks: p.blocks, Hidden: p.hidden, Depth: p.depth, Clamp: 1,
			Embed: p.embed, EmbedWidth: 256, EmbedDepth: 2,
		}, o, p.name == "iin-celeba"})
	}
	return list
}

// generous is for more pairs than a flow could learn by heart.
func generous() Options {
	return Options{
		Steps: 100000, Batch: 64, Seed: 1,
		Optimizer: "adamw", Rate: 3e-4, Warmup: 1000, Floor: 0.01, Beta1: 0.9, Beta2: 0.99, Decay: 0.01, HeadDecay: 0.01, Clip: 5, EMA: 0.9995,
		ConditionDropout: 0.1, Validate: 1000, Draws: 1, Patience: 20,
	}
}

// FindPreset returns the preset of that name.
func FindPreset(name string) (Preset, error) {
	all := Presets()
	i := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
	if i < 0 {
		var names []string
		for _, p := range all {
			names = append(names, p.Name)
		}
		return Preset{}, fmt.Errorf("no preset %q, want one of %s", name, strings.Join(names, ", "))
	}
	return all[i], nil
}
