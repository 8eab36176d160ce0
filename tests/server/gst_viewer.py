"""GStreamer as a WHEP viewer, for the system's Python: `python3 gst_viewer.py URL FRAMES`, JSON of what was decoded.

It knows nothing of this project: an offer goes out by POST, the answer comes in, webrtcbin does the rest.
"""

import json
import sys
import time
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

CAPS = (
    "application/x-rtp,media=video,encoding-name=H264,clock-rate=90000,payload=102,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f"
)
DECODER = "queue ! rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=RGB ! appsink name=end"


class Viewer:
    def __init__(self, url: str, num_frames: int) -> None:
        self.url, self.num_frames = url, num_frames
        self.location = ""
        self.frames: list[tuple[int, int, float]] = []  # width, height, mean grey level
        self.began = self.first_at = 0.0
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.Pipeline()
        self.peer = Gst.ElementFactory.make("webrtcbin")
        self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.peer)
        self.peer.connect("on-negotiation-needed", self.offer)
        self.peer.connect("pad-added", self.decode)
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self.peer.emit("add-transceiver", direction, Gst.Caps.from_string(CAPS))

    def run(self) -> None:
        self.began = time.monotonic()
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add_seconds(20, self.loop.quit)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        urlopen(Request(self.location, method="DELETE")).close()

    def offer(self, peer: Gst.Element) -> None:
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.exchange, None))

    def exchange(self, promise: Gst.Promise, _: object) -> None:
        reply = promise.get_reply()  # a name of its own, or the offer is freed with it
        offer = reply.get_value("offer")
        self.peer.emit("set-local-description", offer, Gst.Promise.new())
        request = Request(self.url, offer.sdp.as_text().encode(), {"Content-Type": "application/sdp"})
        with urlopen(request) as response:
            self.location = urljoin(self.url, response.headers["Location"])
            _, sdp = GstSdp.SDPMessage.new_from_text(response.read().decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.peer.emit("set-remote-description", answer, Gst.Promise.new())

    def decode(self, _: Gst.Element, pad: Gst.Pad) -> None:
        decoder = Gst.parse_bin_from_description(DECODER, True)
        end = decoder.get_by_name("end")
        end.set_property("emit-signals", True)
        end.set_property("sync", False)
        end.connect("new-sample", self.take)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.sinkpads[0])

    def take(self, end: Gst.Element) -> Gst.FlowReturn:
        self.first_at = self.first_at or time.monotonic()
        sample = end.emit("pull-sample")
        shape = sample.get_caps().get_structure(0)
        buffer = sample.get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        self.frames.append((shape.get_value("width"), shape.get_value("height"), sum(data) / len(data)))
        if len(self.frames) >= self.num_frames:
            self.loop.quit()
        return Gst.FlowReturn.OK


if __name__ == "__main__":
    Gst.init(None)
    viewer = Viewer(sys.argv[1], int(sys.argv[2]))
    viewer.run()
    json.dump({"first_ms": 1000 * (viewer.first_at - viewer.began), "frames": viewer.frames}, sys.stdout)
