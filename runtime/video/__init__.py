"""Video files: read, processed frame by frame, written with everything else that they hold."""

from uir.runtime.pipeline import StageTimes
from uir.runtime.video.encoders import VideoOptions
from uir.runtime.video.info import VideoInfo, is_video
from uir.runtime.video.process import FrameProcess, VideoResult, process_video

__all__ = ["FrameProcess", "StageTimes", "VideoInfo", "VideoOptions", "VideoResult", "is_video", "process_video"]
