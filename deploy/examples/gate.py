#!/usr/bin/env python3
"""A turnstile gate in a few lines: asks the gateway about a card, opens, and reports that somebody passed.

    pip install paho-mqtt
    MQTT_USER=gate-in MQTT_PASSWORD=… python3 gate.py HOST PORT GATEWAY PORTAL UID

Without MQTT_USER it connects anonymously, which the broker of deploy/mosquitto.conf refuses.
Prints the decision. Exit code 0: granted, 1: denied or no answer. What each message means: deploy/protocol.md.
"""
import json
import os
import queue
import sys
import uuid

import paho.mqtt.client as mqtt

ANSWER_S = 5


def main(host: str, port: str, gateway: str, portal: str, uid: str) -> int:
    here, answers, subscribed = f"dormgate/v1/{gateway}/portal/{portal}", queue.Queue(), queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=portal)
    client.username_pw_set(os.environ.get("MQTT_USER"), os.environ.get("MQTT_PASSWORD"))
    client.will_set(f"{here}/state", json.dumps({"online": False}))
    client.on_message = lambda _client, _data, message: answers.put(json.loads(message.payload))
    client.on_subscribe = lambda *_: subscribed.put(True)
    client.connect(host, int(port))
    client.loop_start()
    client.subscribe(f"{here}/decision", qos=1)
    subscribed.get(timeout=ANSWER_S)
    client.publish(f"{here}/state", json.dumps({"online": True}))
    # QoS 0 and never retained: a request that comes late must open nothing.
    question = {"v": 1, "id": str(uuid.uuid4()), "uid": uid}
    client.publish(f"{here}/request", json.dumps(question))
    answer = {"id": None}
    while answer.get("id") != question["id"]:
        answer = answers.get(timeout=ANSWER_S)
    print(answer["decision"], answer["reason"])
    if answer["decision"] == "grant":
        # Here the gate opens for answer["hold_ms"], if it is within answer["ttl_ms"]; when somebody has passed:
        client.publish(f"{here}/state", json.dumps({"passed": "in"})).wait_for_publish(ANSWER_S)
    client.disconnect()
    return 0 if answer["decision"] == "grant" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
