import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lightning_emerge.data.photographs.decoding import UnsuitableError, decode, fit, read_each, to_rgb

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (16, 16), left)
    image.paste(right, (8, 0, 16, 16))
    return image


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def file_of(image: Image.Image, kind: str = "png", **arguments) -> bytes:
    content = BytesIO()
    image.save(content, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind), **arguments)
    return content.getvalue()


def decoded(image: Image.Image, kind: str = "png", size: int = 16, **arguments) -> np.ndarray:
    """What a file of this image becomes, (y, x, channel)."""
    return decode(file_of(image, kind, **arguments), size).transpose(1, 2, 0).astype(int)


def png(pixels: np.ndarray, colour_type: int, depth: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG, written by the book (RFC 2083), as Pillow writes none of more than one channel of 16 bits."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in pixels)
    extra = b"".join(chunk(name, body) for name, body in chunks)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


class TestShape:
    def test_an_image_of_the_size_asked_for_keeps_its_pixels(self):
        pixels = noise(48, 48, 3)
        assert (decoded(Image.fromarray(pixels), size=48) == pixels).all()
        assert (decoded(Image.fromarray(pixels).convert("RGBA"), size=48) == pixels).all()

    # By the book (EXIF 2.32, tag 274): what of the upright picture the file's row 0 and column 0 are.
    @pytest.mark.parametrize(
        ("orientation", "stored"),
        [
            (1, lambda upright: upright),
            (2, lambda upright: upright[:, ::-1]),
            (3, lambda upright: upright[::-1, ::-1]),
            (4, lambda upright: upright[::-1]),
            (5, lambda upright: upright.transpose(1, 0, 2)),
            (6, lambda upright: upright[:, ::-1].transpose(1, 0, 2)),
            (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
            (8, lambda upright: upright[::-1].transpose(1, 0, 2)),
        ],
    )
    @pytest.mark.parametrize("kind", ["png", "tif"])
    def test_turned_as_its_exif_says(self, orientation, stored, kind):
        upright, exif = noise(16, 16, 3), Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(stored(upright)))
        assert (decoded(image, kind, exif=exif) == upright).all()

    def test_an_oblong_photograph_is_turned_before_it_is_cropped(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.new("RGB", (32, 16), RED)
        image.paste(BLUE, (8, 0, 24, 8))  # upright: 16 wide, 32 high, blue right in the middle
        found = decoded(image, exif=exif)
        assert (found[:, 9:] == BLUE).all()
        assert (found[:, :7] == RED).all()

    def test_every_pixel_counts_when_it_is_scaled(self):
        squares = np.indices((64, 64)).sum(axis=0) % 2 * 255
        found = decoded(Image.fromarray(np.repeat(squares[..., None], 3, axis=2).astype(np.uint8)))
        np.testing.assert_allclose(found, 127.5, atol=2)

    def test_cropped_in_the_middle(self):
        wide = Image.new("RGB", (64, 32), GREEN)
        wide.paste(RED, (16, 0, 48, 32))
        assert (decoded(wide, size=8)[:, 1:-1] == RED).all()


class TestColour:
    @pytest.mark.parametrize(
        ("mode", "kind"),
        [
            *(("RGB", kind) for kind in ("png", "jpg", "tif", "bmp", "gif", "webp")),
            *(("RGBA", kind) for kind in ("png", "tif", "webp")),
            *(("P", kind) for kind in ("png", "tif", "bmp", "gif")),
            *(("CMYK", kind) for kind in ("jpg", "tif")),
            ("YCbCr", "jpg"),
        ],
    )
    def test_colours_come_through_every_mode_and_format(self, mode, kind):
        found = decoded(halves((220, 30, 40), (10, 60, 200)).convert(mode), kind)
        for part, colour in ((found[:, :6], (220, 30, 40)), (found[:, -6:], (10, 60, 200))):
            np.testing.assert_allclose(part.mean(axis=(0, 1)), colour, atol=12)

    def test_colours_come_through_ycck(self):
        # Photoshop's JPEG: luma and chroma of inverted CMY, and an inverted K, as the Adobe marker's last byte says.
        # Pillow inverts what it writes as CMYK, so that these planes arrive in the file as they are meant.
        light, blue, red = (
            Image.fromarray(255 - np.asarray(halves((220, 30, 40), (10, 60, 200)))).convert("YCbCr").split()
        )
        planes = [255 - np.asarray(plane) for plane in (light, blue, red)]
        content = file_of(Image.merge("CMYK", [*map(Image.fromarray, planes), Image.new("L", (16, 16))]), "jpg")
        at = content.index(b"Adobe") + 11
        assert content[at] == 0
        found = decode(content[:at] + b"\x02" + content[at + 1 :], 16).transpose(1, 2, 0)
        for part, colour in ((found[:, :6], (220, 30, 40)), (found[:, -6:], (10, 60, 200))):
            np.testing.assert_allclose(part.mean(axis=(0, 1)), colour, atol=12)

    @pytest.mark.parametrize("mode", ["L", "LA", "1"])
    def test_grey_becomes_three_equal_channels(self, mode):
        found = decoded(halves(WHITE, (0, 0, 0)).convert(mode))
        assert (found[:, :6] == 255).all()
        assert (found[:, -6:] == 0).all()

    @pytest.mark.parametrize("kind", ["png", "tif"])
    def test_16_bit_grey_keeps_its_shades(self, kind):
        deep = np.random.default_rng(0).integers(0, 65536, (16, 16)).astype(np.uint16)
        found = decoded(Image.fromarray(deep), kind)
        np.testing.assert_allclose(found, np.repeat(deep[..., None] / 257, 3, axis=2), atol=0.5)

    @pytest.mark.parametrize(("mode", "low", "high"), [("F", 0, 1), ("I", 0, 65536), ("I", -1, 0)])
    def test_pixels_without_an_agreed_range_are_refused(self, mode, low, high):
        image = Image.fromarray(np.linspace(low, high, 64).reshape(8, 8).astype({"F": "f4", "I": "i4"}[mode]))
        assert image.mode == mode
        with pytest.raises(ValueError, match="pixels have no agreed range"):
            decoded(image, "tif")

    def test_16_bit_colour_keeps_its_shades(self):
        deep = np.random.default_rng(0).integers(0, 65536, (16, 16, 3)).astype(np.uint16)
        np.testing.assert_allclose(decode(png(deep, 2, 16), 16), deep.transpose(2, 0, 1) / 257, atol=1)

    @pytest.mark.parametrize("kind", ["gif", "webp", "png", "tif"])
    def test_the_first_frame_of_several(self, kind):
        frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
        found = decoded(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(found, np.broadcast_to(RED, (16, 16, 3)), atol=4)


class TestTransparency:
    """Over white, whatever the colour that a transparent pixel has."""

    @staticmethod
    def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Of colours and alpha in 0 to 1."""
        return 255 * (colour * alpha[..., None] + 1 - alpha[..., None])

    @pytest.mark.parametrize("kind", ["png", "tif"])
    def test_colour_with_alpha(self, kind):
        pixels = noise(16, 16, 4)
        expected = self.over_white(pixels[..., :3] / 255, pixels[..., 3] / 255)
        np.testing.assert_allclose(decoded(Image.fromarray(pixels, "RGBA"), kind), expected, atol=1)

    def test_grey_with_alpha(self):
        pixels = noise(16, 16, 2)
        expected = self.over_white(np.repeat(pixels[..., :1], 3, axis=2) / 255, pixels[..., 1] / 255)
        np.testing.assert_allclose(decoded(Image.fromarray(pixels, "LA")), expected, atol=1)

    def test_16_bit_colour_with_alpha(self):
        deep = np.random.default_rng(0).integers(0, 65536, (16, 16, 4)).astype(np.uint16)
        expected = self.over_white(deep[..., :3] / 65535, deep[..., 3] / 65535).transpose(2, 0, 1)
        np.testing.assert_allclose(decode(png(deep, 6, 16), 16), expected, atol=2)

    def test_16_bit_grey_with_alpha(self):
        deep = np.random.default_rng(0).integers(0, 65536, (16, 16, 2)).astype(np.uint16)
        expected = self.over_white(np.repeat(deep[..., :1], 3, axis=2) / 65535, deep[..., 1] / 65535).transpose(2, 0, 1)
        np.testing.assert_allclose(decode(png(deep, 4, 16), 16), expected, atol=2)

    @pytest.mark.parametrize(("depth", "shades"), [(8, (60, 200)), (16, (15420, 51400))])
    def test_grey_with_one_shade_that_is_transparent(self, depth, shades):
        pixels = np.full((16, 16), shades[0], np.uint16)
        pixels[:, 8:] = shades[1]
        found = decode(png(pixels, 0, depth, (b"tRNS", struct.pack(">H", shades[0]))), 16)
        assert (found[..., :8] == 255).all()
        assert (found[..., 8:] == 200).all()

    def test_a_palette_with_alpha_does_not_warn(self):
        palette = Image.new("P", (16, 16), 0)
        palette.putpalette([255, 0, 0, 0, 0, 255])
        palette.paste(1, (8, 0, 16, 16))
        found = decoded(palette, transparency=bytes([0, 128]))
        assert (found[:, :8] == WHITE).all()
        np.testing.assert_allclose(found[:, 8:], np.broadcast_to((127, 127, 255), (16, 8, 3)), atol=1)

    def test_a_gif_with_one_colour_that_is_transparent(self):
        palette = Image.new("P", (16, 16), 0)
        palette.putpalette([255, 0, 0, 0, 0, 255])
        palette.paste(1, (8, 0, 16, 16))
        found = decoded(palette, "gif", transparency=0)
        assert (found[:, :8] == WHITE).all()
        assert (found[:, 8:] == BLUE).all()

    def test_what_is_transparent_does_not_bleed_when_it_is_scaled(self):
        image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
        image.paste((0, 0, 0, 255), (15, 0, 32, 32))
        found = decoded(image, size=8)
        assert (found[..., 0] == found[..., 1]).all()


class TestWarnings:
    # Pillow warns above its limit and raises above twice that.
    @pytest.mark.parametrize("limit", [200, 100])
    def test_one_that_pillow_deems_unsafe_is_refused(self, monkeypatch, limit):
        content = file_of(Image.new("RGB", (16, 16), RED))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 256)
        decode(content, 8)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        bomb = (Image.DecompressionBombWarning, Image.DecompressionBombError)
        # As outside of pytest, where warnings are no errors.
        with warnings.catch_warnings(action="default"), pytest.raises(bomb, match="bomb"):
            decode(content, 8)

    def test_a_damaged_exif_block_does_not_warn(self):
        exif = Image.Exif()
        exif[0x010E] = "a description that is cut off"
        content = file_of(Image.new("RGB", (16, 16), RED), "jpg", exif=exif.tobytes()[:-9])
        with pytest.warns(UserWarning, match="Truncated"):
            Image.open(BytesIO(content)).getexif()
        decode(content, 16)

    def test_the_warning_filters_are_as_they_were(self):
        before = list(warnings.filters)
        decode(file_of(Image.new("RGB", (16, 16))), 8)
        assert warnings.filters == before


class TestCollect:
    @staticmethod
    def half(number: int) -> int:
        if number % 2:
            raise KeyError if number == 5 else ValueError("odd")
        return number // 2

    def test_what_can_be_read_is_found_by_its_key(self):
        assert read_each([4, 2, 0], self.half) == {4: 2, 2: 1, 0: 0}

    def test_all_that_cannot_are_in_one_error_with_their_reasons(self):
        with pytest.raises(
            ValueError, match=r"can be decoded; 3 cannot: 1 \(odd\); 3 \(odd\); 5 \(KeyError\)\. Repair"
        ):
            read_each(range(6), self.half)

    def test_of_many_the_first_ten_are_listed_and_the_rest_counted(self):
        with pytest.raises(ValueError, match=r"13 cannot: 1 .*; 19 \(odd\) and 3 more\."):
            read_each(range(26), self.half)

    def test_what_is_wrong_with_all_ends_it_at_once(self):
        def read(number: int) -> int:
            if number == 1:
                raise UnsuitableError("wrong kind")
            return self.half(3)

        with pytest.raises(UnsuitableError, match=r"^wrong kind$"):
            read_each(range(6), read)


def test_no_image_is_said_to_be_none():
    with pytest.raises(ValueError, match=r"^not an image$"):
        decode(b"I am no photograph.", 8)


def test_fit_and_to_rgb_leave_the_image_that_they_get_as_it_was():
    image = Image.fromarray(noise(9, 7, 4), "RGBA")
    before = image.tobytes()
    assert fit(to_rgb(image), 8).shape == (3, 8, 8)
    assert image.tobytes() == before
