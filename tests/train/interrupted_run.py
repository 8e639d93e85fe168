"""A training for the tests to kill: python interrupted_run.py FOLDER [wait].

Goes on from FOLDER/checkpoint.safetensors if that exists. With "wait" it announces every step and then waits for a
line on stdin, so that whoever reads the announcements decides how far it gets.
"""

import os
import sys

import fastdl as fd
from fastdl import data, nn, optim, train

STEPS = 48  # twelve in an epoch


def main(folder: str, wait: bool) -> None:
    fd.manual_seed(7)
    generator = fd.Generator(1)
    images = generator.integers(0, 17, (48, 1, 8, 8)).astype("uint8")
    labels = generator.integers(0, 3, (48,))
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.4), nn.Linear(64, 3),
    )  # fmt: skip
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    samples = data.ArrayDataset(images, labels)
    loader = data.DataLoader(samples, batch_size=4, shuffle=True, scale=1 / 16)
    validation = data.DataLoader(data.Subset(samples, range(11)), batch_size=4, scale=1 / 16)
    path = os.path.join(folder, "checkpoint.safetensors")
    callbacks = [
        train.CSVLogger(os.path.join(folder, "history.csv")),
        train.EarlyStopping(patience=100, restore_best=True),
        train.Checkpoint(path, every_steps=3),
    ]

    def announce(trainer):
        print(trainer.step, flush=True)
        sys.stdin.readline()

    if wait:
        callbacks.append(train.LambdaCallback(on_step_end=announce))
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    trainer = train.Trainer(
        model, optimizer, nn.CrossEntropyLoss(), ["accuracy"], callbacks, schedule, scheduler_every="step"
    )
    if os.path.exists(path):
        train.load_checkpoint(path, trainer)
    trainer.fit(loader, validation, steps=STEPS)
    fd.save(model.state_dict(), os.path.join(folder, "model.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1], "wait" in sys.argv[2:])
