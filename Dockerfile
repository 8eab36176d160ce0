# docker build -t rewander .                              the CPU image
# docker build -t rewander --build-arg KIND=gpu .         run it with --gpus all
# docker run --rm -p 8000:8000 -e REWANDER_TOKEN rewander
FROM python:3.11-slim

ARG KIND=cpu
# An index with torch for CPUs only, for a smaller image: PyPI's own torch brings CUDA along.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /rewander
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check -c .ci/constraints-${KIND}.txt ".[${KIND}]" \
    && rm -rf build ./*.egg-info \
    && useradd --create-home player

# Beyond loopback the server lets nobody in without a token; it prints one if REWANDER_TOKEN is not set.
USER player
WORKDIR /home/player
EXPOSE 8000
ENTRYPOINT ["rewander"]
CMD ["play", "--host", "0.0.0.0"]
