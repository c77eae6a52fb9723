"""An independent Modbus peer for the tests: a line of devices, or a controller that asks the gateway.

    modbus_peer.py device tcp            prints the port it listens on
    modbus_peer.py device rtu PORT
    modbus_peer.py controller tcp PORT
    modbus_peer.py controller rtu PORT

Commands come on standard input, one a line; each is answered by one line. The end of the input ends it.
  device:      set UNIT FUNCTION ADDRESS VALUE...   get UNIT FUNCTION ADDRESS COUNT
  controller:  ask23 UNIT COUNTER UID   ask16 UNIT COUNTER UID   input UNIT ADDRESS COUNT   state UNIT BITS
"""

import asyncio
import sys

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNITS = (5, 21)


def devices():
    bits = lambda: [SimData(0, count=2048, values=False, datatype=DataType.BITS)]
    words = lambda: [SimData(0, count=2048, values=0, datatype=DataType.REGISTERS)]
    return [SimDevice(unit, simdata=(bits(), bits(), words(), words())) for unit in UNITS]


def report(*words):
    print(*words, flush=True)


async def lines():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line.split()


async def device(kind, where):
    if kind == "tcp":
        server = ModbusTcpServer(devices(), address=("127.0.0.1", 0))
    else:
        # A unit that is not there is silent on a serial line.
        server = ModbusSerialServer(
            devices(), framer=FramerType.RTU, port=where, baudrate=19200, ignore_missing_devices=True
        )
    await server.serve_forever(background=True)
    report(server.transport.sockets[0].getsockname()[1] if kind == "tcp" else "ready")
    async for command in lines():
        unit, function, address, *rest = map(int, command[1:])
        if command[0] == "set":
            values = [bool(v) for v in rest] if function in (1, 2, 5, 15) else rest
            await server.async_setValues(unit, function, address, values)
            report("ok")
        else:
            values = await server.async_getValues(unit, function, address, rest[0])
            report(*(int(v) for v in values[: rest[0]]))
    await server.shutdown()


def asked(counter, uid):
    uid = bytes.fromhex(uid)
    padded = uid.ljust(10, b"\0")
    return [int(counter), len(uid), *(int.from_bytes(padded[i : i + 2], "big") for i in range(0, 10, 2)), 1]


async def controller(kind, where):
    if kind == "tcp":
        client = AsyncModbusTcpClient("127.0.0.1", port=int(where))
    else:
        client = AsyncModbusSerialClient(where, framer=FramerType.RTU, baudrate=19200, timeout=1, retries=0)
    await client.connect()
    report("ready")
    async for command in lines():
        unit = int(command[1])
        match command[0]:
            case "ask23":
                answer = await client.readwrite_registers(
                    read_address=16, read_count=7, write_address=0, values=asked(*command[2:]), device_id=unit
                )
            case "ask16":
                answer = await client.write_registers(0, asked(*command[2:]), device_id=unit)
            case "input":
                answer = await client.read_input_registers(int(command[2]), count=int(command[3]), device_id=unit)
            case "state":
                answer = await client.write_register(8, int(command[2]), device_id=unit)
        if answer.isError():
            report("exception", answer.exception_code)
        else:
            report("ok", *getattr(answer, "registers", []))
    client.close()


ROLE = {"device": device, "controller": controller}[sys.argv[1]]
asyncio.run(ROLE(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
