defmodule Cryptoki.Test.EveryCall.Fault do
  @moduledoc false
  # What goes wrong at one call: how, and with which code.

  # 2.40's and 3.x's, a code that no standard has, and one of a vendor: what is common, what libraries say for
  # want of a better one, and what would be mistaken for another.
  @codes [
    0x05,
    0x06,
    0x07,
    0x02,
    0x21,
    0x30,
    0x31,
    0x32,
    0x50,
    0x51,
    0x54,
    0x60,
    0x63,
    0x68,
    0x70,
    0x71,
    0x82,
    0x90,
    0x91,
    0xA0,
    0xA4,
    0xB0,
    0xB3,
    0xB1,
    0xE0,
    0xE1,
    0xE2,
    0x100,
    0x101,
    0x150,
    0x190,
    0x1F7,
    0x80000123
  ]

  # Of those that come late a few: what a code means does not depend on it.
  @late_codes [0x30, 0x32, 0xB0, 0xB3, 0x101, 0xA0]

  @typedoc "In place of the work, after it, or behind the deadline."
  @type mode :: :before | :after | :late | :late_after
  @type t :: {mode, code :: non_neg_integer | nil}

  @doc "Every fault that a call is tried with."
  @spec all :: [t]
  def all do
    for(code <- @codes, mode <- [:before, :after], do: {mode, code}) ++
      for(code <- [nil | @late_codes], mode <- [:late, :late_after], do: {mode, code})
  end

  @spec codes :: [non_neg_integer]
  def codes, do: @codes

  @doc "The rule for the `nth` call of a function from now on, whoever makes it."
  @spec rule(t, String.t(), pos_integer) :: String.t()
  def rule({mode, code}, function, nth) do
    hang = if late?({mode, code}), do: " hang"
    answer = if code, do: " rv=#{hex(code)}"
    behind = if mode in [:after, :late_after], do: " after_forward"
    "#{function}#{hang}#{answer} after=#{nth - 1} count=1#{behind}"
  end

  @doc "Whether the call returns when its caller has gone."
  @spec late?(t) :: boolean
  def late?({mode, _code}), do: mode in [:late, :late_after]

  @doc "As the journal has a code."
  @spec hex(non_neg_integer) :: String.t()
  def hex(code), do: "0x" <> String.downcase(Integer.to_string(code, 16))

  @spec title(t) :: String.t()
  def title({mode, nil}), do: "#{mode}"
  def title({mode, code}), do: "#{mode} #{hex(code)}"
end
