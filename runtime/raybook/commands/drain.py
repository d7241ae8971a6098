"""``raybook drain-node``: have a node emptied and leave, with Ray's words."""

from __future__ import annotations

import json

import click

from raybook.base.drains import NO_DEADLINE, REASONS
from raybook.commands.ask import ask, cluster_at
from raybook.commands.state import address_option
from raybook.io.cluster_registry import ClusterRecord
from raybook.protocol.messages.gcs import DrainNode, ListNodes, NodeInfo

ID_DIGITS_MIN = 4


@click.command("drain-node")
@address_option
@click.option("--node-id", required=True, metavar="ID", help="As `raybook list nodes` shows it; its beginning will do.")
@click.option("--reason", required=True, type=click.Choice(REASONS), help="Ray's names; a node that is not idle may refuse "
              "an IDLE_TERMINATION, never a PREEMPTION.")  # fmt: skip
@click.option("--reason-message", default="", help="For people: what is happening.")
@click.option(
    "--deadline-remaining-seconds",
    type=click.IntRange(0),
    help="At the end of which the node leaves with whatever still runs there; unless given, it waits for that.",
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def drain_node(
    address: str, node_id: str, reason: str, reason_message: str, deadline_remaining_seconds: int | None, style: str
) -> None:
    """Empty a node, then have it leave its cluster: no new work goes there, actors begin anew elsewhere, objects move."""
    record = cluster_at(address)
    node = _node(record, node_id)
    deadline_ms = NO_DEADLINE if deadline_remaining_seconds is None else deadline_remaining_seconds * 1_000
    (reply,) = ask(record, DrainNode(node.node_id, reason, reason_message, deadline_ms))
    if style == "json":
        row = {"node_id": node.node_id.hex(), "accepted": reply.accepted, "rejection": reply.rejection}
        click.echo(json.dumps(row))
        return
    if not reply.accepted:
        raise click.ClickException(f"The drain request is not accepted: {reply.rejection}")
    if not node.alive:
        click.echo(f"Node {node.node_id.hex()} is gone already ({node.death_reason}).")
        return
    within = "when it is empty" if deadline_ms == NO_DEADLINE else f"within {deadline_remaining_seconds} s"
    click.echo(f"Node {node.node_id.hex()} takes no more work and leaves {within}; `raybook status` shows it.")


def _node(record: ClusterRecord, node_id: str) -> NodeInfo:
    """The node with this id, or whose id begins so. BadParameter."""
    text = node_id.lower()
    if len(text) < ID_DIGITS_MIN or any(digit not in "0123456789abcdef" for digit in text):
        raise click.BadParameter(f"--node-id: Invalid hex ID of a node, got {node_id}.")
    (reply,) = ask(record, ListNodes())
    found = [node for node in reply.nodes if node.node_id.hex().startswith(text)]
    if len(found) != 1:
        which = "no node" if not found else f"{len(found)} nodes"
        raise click.BadParameter(f"--node-id: {which} with an id that begins with {node_id}; see `raybook list nodes`.")
    return found[0]
