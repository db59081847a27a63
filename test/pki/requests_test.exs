defmodule Cryptoki.PKI.RequestsTest do
  use ExUnit.Case, async: true

  # Requests of strangers: by the programs that people have, and by hand with a mistake in each field.
  # What is accepted, and with which names, is written down beside each (test/support/pki); what is
  # accepted is certified, and the certificate goes before the judges. Without CRYPTOKI_TEST_PKI=all,
  # which is `bin/test --pki`, the slow kinds of keys are left out, and most of the judging.

  alias Cryptoki.{Error, X509}
  alias Cryptoki.Test.{KeyPairs, MainToken}
  alias Cryptoki.Test.PKI.{Judges, Requests}
  alias Cryptoki.Test.Recorded

  @moduletag timeout: :infinity
  # Every one of so many is judged where not all are.
  @sample 12

  setup_all do
    hsm = start_supervised!({Cryptoki, MainToken.options(sessions: 2)})
    %{secp256r1: key} = KeyPairs.make(hsm, [:secp256r1])
    root = X509.self_signed!(hsm, key, subject: "/C=DE/O=Acme/CN=root", ca: true, days: 30)
    list = X509.crl!(hsm, key, root, [])
    %{authority: %{hsm: hsm, key: key, root: root, list: list}}
  end

  for maker <- Requests.makers() do
    @tag skip: Requests.lacks(maker)
    test "each request by #{maker} is accepted with its names, or refused with a reason",
         %{authority: authority} do
      requests = Requests.make(unquote(maker))
      said = for request <- requests, do: {request, Requests.read(request.bytes)}

      assert explain(for {r, said} <- said, not Requests.right?(r.answer, said), do: {r, said}) ==
               ""

      accepted = for {request, {:accepted, _, _}} <- said, do: request
      issued = for request <- accepted, do: {request, issue(authority, request)}

      refused =
        for {request, {:error, %Error{} = e}} <- issued, do: {request.name, Exception.message(e)}

      # That it names nobody is told here only.
      assert [] == for({_name, text} = row <- refused, not (text =~ "names nobody"), do: row)

      # What is shown of it can be said, and is the same again.
      written =
        for {request, {:accepted, _, _} = answer} <- said,
            do: {request.name, answer, say(authority, answer)}

      assert [] == for({_name, answer, again} = row <- written, again != answer, do: row)

      judged = for {request, {:ok, der}} <- issued, do: {request, der}
      judged = if Requests.all?(), do: judged, else: Enum.take_every(judged, @sample)

      for {_request, der} <- judged,
          do: Judges.judge!([authority.root, der], lists: [{authority.list, authority.root}])

      counts = %{
        accepted: length(accepted),
        refused: length(said) - length(accepted),
        issued: length(judged)
      }

      Recorded.pki({:requests, unquote(maker), counts})
    end
  end

  defp issue(%{hsm: hsm, key: key, root: root}, request),
    do: X509.issue(hsm, key, root, request.bytes, days: 9, extended_key_usage: [:client_auth])

  defp say(_authority, {:accepted, "", []} = answer), do: answer

  defp say(%{hsm: hsm, key: key}, {:accepted, subject, names}) do
    csr = X509.csr!(hsm, key, subject: subject, subject_alt_name: names)
    Requests.read(csr)
  rescue
    error -> {:raised, Exception.message(error)}
  end

  defp explain(wrong) do
    Enum.map_join(wrong, fn {request, said} ->
      "#{request.name}\n  wanted #{inspect(request.answer)}\n  got #{inspect(said)}\n"
    end)
  end
end
