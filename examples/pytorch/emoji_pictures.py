#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small set of pictures with captions to try train.py with: emoji_pictures.py FOLDER draws eight emoji on each of four
backgrounds, 128x128, NAME.png and NAME.txt. Needs Debian's fonts-noto-color-emoji and Pillow."""
import argparse
from pathlib import Path
import sys

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
THINGS = {"a fox": "\U0001F98A", "a red apple": "\U0001F34E", "an owl": "\U0001F989", "a strawberry": "\U0001F353",
          "a frog": "\U0001F438", "a tulip": "\U0001F337", "a pineapple": "\U0001F34D", "a penguin": "\U0001F427"}
BACKGROUNDS = {"white": (255, 255, 255), "light blue": (173, 216, 230), "teal": (0, 128, 128), "purple": (128, 0, 128)}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path)
    p.add_argument("--font", default=FONT)
    args = p.parse_args()
    try:
        font = ImageFont.truetype(args.font, 109)  # the size of its bitmaps
        args.folder.mkdir(parents=True, exist_ok=True)
        for thing, sign in THINGS.items():
            emoji = Image.new("RGBA", (136, 128))
            ImageDraw.Draw(emoji).text((0, 0), sign, font=font, embedded_color=True)
            emoji = emoji.crop(emoji.getbbox()).resize((96, 96), Image.Resampling.LANCZOS)
            for background, colour in BACKGROUNDS.items():
                picture = Image.new("RGBA", (128, 128), colour)
                picture.alpha_composite(emoji, (16, 16))
                caption = f"{thing} on a {background} background"
                path = args.folder / (caption.replace(" ", "_") + ".png")
                picture.convert("RGB").save(path)
                path.with_suffix(".txt").write_text(caption + "\n")
    except OSError as e:
        print(f"emoji_pictures.py: {args.font}: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
