"""The command: python -m e2e.cluster {up,down,status,env,images,build}."""

import argparse
import sys

from . import build, programs
from .cluster import Cluster
from .console import ClusterError


def main() -> int:
    arguments = _parser().parse_args()
    try:
        _COMMANDS[arguments.command](arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _up(arguments: argparse.Namespace) -> None:
    Cluster(arguments.name).up(without_node=arguments.without_node, extras=arguments.extras)


def _down(arguments: argparse.Namespace) -> None:
    Cluster(arguments.name).down()


def _status(arguments: argparse.Namespace) -> None:
    for part, condition in Cluster(arguments.name).status().items():
        print(f"{part:26} {condition}")


def _env(arguments: argparse.Namespace) -> None:
    print(f"export KUBECONFIG={Cluster(arguments.name).kubeconfig}")


def _images(arguments: argparse.Namespace) -> None:
    Cluster(arguments.name).import_images()


def _build(arguments: argparse.Namespace) -> None:
    build.build([*programs.CONTROL_PLANE, *programs.NODE, *programs.TOOLS, *arguments.extras])


_COMMANDS = {"up": _up, "down": _down, "status": _status, "env": _env, "images": _images, "build": _build}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster", description="A real Kubernetes cluster on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="demo", help="which cluster (default: demo)")
    extras = argparse.ArgumentParser(add_help=False)
    extras.add_argument(
        "--with", dest="extras", default=(), type=lambda text: tuple(text.split(",")), metavar="EXTRA[,EXTRA]",
        help=f"parts that are only there when asked for: {', '.join(programs.EXTRAS)}",
    )  # fmt: skip
    up = commands.add_parser("up", parents=[named, extras], help="build and start what is missing")
    up.add_argument("--without-node", action="store_true", help="control plane and fake nodes only")
    commands.add_parser("down", parents=[named], help="end the cluster and delete its state")
    commands.add_parser("status", parents=[named], help="what each part is doing")
    commands.add_parser("env", parents=[named], help="the line that points kubectl at the cluster")
    commands.add_parser("images", parents=[named], help="build the project's images and import them")
    commands.add_parser("build", parents=[extras], help="only build the programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
