// Takes a photo with the camera. The picture is shown in the video element until it is taken or given up.

const REASONS = {
  NotAllowedError: "This page may not use the camera: allow it in the browser's settings for this page, or choose a file.",
  NotFoundError: "This device has no camera that the browser can use: choose a file.",
  NotReadableError: "The camera cannot be opened: another program may be using it.",
};

export class Camera {
  constructor(video) {
    this.video = video;
    this.stream = null;
  }

  /** Show what the camera sees, that of the back where there are two. Throws an Error that says why it cannot. */
  async open() {
    if (!navigator.mediaDevices) throw new Error("The camera needs a secure address: https, or localhost. You can choose a file.");
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The camera cannot be opened (${error.name}): choose a file.`);
    }
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  /** The picture as a PNG file. */
  async take() {
    const canvas = new OffscreenCanvas(this.video.videoWidth, this.video.videoHeight);
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }
}
