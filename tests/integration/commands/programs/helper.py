"""Lies beside the program that imports it."""


class Model:
    def double(self, element):
        return 2 * element
