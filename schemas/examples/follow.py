#!/usr/bin/env python3
"""Follows a campaign from outside, with a public NATS client and the .proto files alone.

Prints one line an event: when it happened, its type, whose it is (a migration's id, or
"campaign"), and its fields as JSON. Begins with the campaign's first event and goes on as events
come, until it is interrupted; with --once it ends when it has caught up.

A program like this may be stopped at any time: it remembers the last sequence that it has seen,
and asks for what comes after it (--after).
"""

import argparse
import asyncio
import importlib
import json
import pathlib
import signal
import sys
import tempfile

import nats
from google.protobuf.json_format import MessageToDict
from grpc_tools import protoc
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

PROTO = pathlib.Path(__file__).resolve().parent.parent / "proto"


def load_messages():
    """Compiles the .proto files into a temporary folder, and loads what came out."""
    with tempfile.TemporaryDirectory(prefix="drover-follow-") as folder:
        file = "drover/v1/events.proto"
        if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={folder}", file]) != 0:
            sys.exit(f"{PROTO / file} cannot be compiled")
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        return importlib.import_module("drover.v1.events_pb2")


def line(messages, message):
    """One line for one message of the stream."""
    whose = message.subject.split(".")[3]
    envelope = messages.CampaignEvent() if whose == "campaign" else messages.MigrationEvent()
    envelope.ParseFromString(message.data)
    # None: a type that is newer than these .proto files. Its headers tell what it is all the same.
    name = envelope.WhichOneof("event")
    fields = MessageToDict(getattr(envelope, name), preserving_proto_field_name=True) if name else {}
    headers = message.headers or {}
    kind = headers.get("ce-type", "?").removeprefix("drover.v1.")
    return f"{headers.get('ce-time', '?')}  {kind:<19}  {whose:<36}  {json.dumps(fields)}"


async def follow(arguments, messages):
    client = await nats.connect(arguments.server, user_credentials=arguments.credentials)
    stream = f"DROVER_EVENTS_{arguments.campaign}"
    try:
        jetstream = client.jetstream()
        state = (await jetstream.stream_info(stream)).state
        if arguments.once and state.last_seq <= arguments.after:
            return
        # Ordered: the client notices a gap and asks again from there; nothing is kept at the server.
        subscription = await jetstream.subscribe(
            f"drover.events.{arguments.campaign}.>",
            stream=stream,
            ordered_consumer=True,
            config=ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=arguments.after + 1,
            ),
        )
        async for message in subscription.messages:
            print(line(messages, message), flush=True)
            if arguments.once and message.metadata.num_pending == 0:
                return
    except NotFoundError:
        sys.exit(f"there is no campaign {arguments.campaign} at {arguments.server}")
    finally:
        await client.close()


async def run(arguments, messages):
    task = asyncio.ensure_future(follow(arguments, messages))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaign")
    parser.add_argument("--server", default="nats://127.0.0.1:4222", help="where NATS is")
    parser.add_argument("--credentials", metavar="FILE", help="a .creds file")
    parser.add_argument("--after", type=int, default=0, metavar="SEQUENCE", help="begin after this")
    parser.add_argument("--once", action="store_true", help="end when caught up")
    arguments = parser.parse_args()
    asyncio.run(run(arguments, load_messages()))


if __name__ == "__main__":
    main()
