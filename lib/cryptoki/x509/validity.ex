defmodule Cryptoki.X509.Validity do
  @moduledoc false
  # From when until when something holds: two times, or a time and days. Pure.

  @doc "Both times, whole seconds; `from` and `to` are the names of their options."
  @spec period!(keyword, from :: atom, to :: atom, days :: pos_integer) ::
          {DateTime.t(), DateTime.t()}
  def period!(options, from, to, default) do
    days = options[:days] || default

    if options[to] && options[:days],
      do: wrong!("#{to}: and days: say the same; only one can be given")

    # A second ago: programs that ask for whole seconds (time(2)) are a tick behind this clock.
    begins = time!(options[from] || DateTime.add(now(), -1), from)
    ends = if options[to], do: time!(options[to], to), else: after_days!(begins, days)
    unless DateTime.compare(begins, ends) == :lt, do: wrong!("#{to}: must be later than #{from}:")
    {begins, ends}
  end

  @doc "Now, in whole seconds."
  @spec now :: DateTime.t()
  def now, do: DateTime.truncate(DateTime.utc_now(), :second)

  # The years of DER have four digits.
  defp after_days!(begins, days) do
    case DateTime.to_unix(begins) + days * 86_400 do
      seconds when seconds < 253_402_300_800 -> DateTime.from_unix!(seconds)
      _later -> wrong!("days: must end before the year 10000")
    end
  end

  @doc "A time of an option, whole seconds in UTC: DER has no parts of a second."
  @spec time!(term, atom | String.t()) :: DateTime.t()
  def time!(%DateTime{} = time, _name),
    do: time |> DateTime.shift_zone!("Etc/UTC") |> DateTime.truncate(:second)

  def time!(_other, name), do: wrong!("#{name}: must be a DateTime")

  @spec wrong!(String.t()) :: no_return
  defp wrong!(text), do: raise(ArgumentError, text)
end
