// From a picture file to RGBA. The browser turns it as its EXIF orientation says.

import type { Pixels } from "./preprocess";

/** Upright RGBA of a picture file, not premultiplied. Throws for a file that the browser cannot decode. */
export async function decode(file: Blob): Promise<Pixels> {
  const bitmap = await createImageBitmap(file, {
    imageOrientation: "from-image",
    premultiplyAlpha: "none",
    colorSpaceConversion: "none",
  }).catch(() => {
    throw new Error("this file is no picture that the browser can decode");
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error(`the browser has no canvas of ${width} x ${height} pixels`);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, channels: 4, data: context.getImageData(0, 0, width, height).data };
}
