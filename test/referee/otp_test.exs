defmodule Cryptoki.Referee.OtpTest do
  use Cryptoki.Test.Referee, async: true

  # One-time passwords: the values of RFC 4226, appendix D.

  @secret "12345678901234567890"
  @values ~w[755224 287082 359152 969429 338314 254676 287922 162583 399871 520489]

  on_each_token do
    check "HOTP: RFC 4226", [hotp: [:sign, :verify]], %{hsm: hsm} do
      for {value, counter} <- Enum.with_index(@values) do
        mechanism = {:hotp, counter: <<counter::64>>}
        assert Cryptoki.sign!(hsm, key(hsm), mechanism, "") == %{value: value}
        assert Cryptoki.verify(hsm, key(hsm), mechanism, "", value) == :ok
        assert_refused(Cryptoki.verify(hsm, key(hsm), mechanism, "", "000000"))
      end

      # The token counts by itself.
      key = key(hsm)
      for value <- @values, do: assert(Cryptoki.sign!(hsm, key, :hotp, "") == %{value: value})
      key = key(hsm)
      for value <- @values, do: assert(Cryptoki.verify(hsm, key, :hotp, "", value) == :ok)
    end
  end

  defp key(hsm) do
    Cryptoki.create!(hsm,
      class: :otp_key,
      key_type: :hotp,
      value: @secret,
      otp_length: 6,
      otp_counter: <<0::64>>,
      otp_counter_requirement: :optional,
      sign: true,
      verify: true
    )
  end
end
